"""Experiments on a run: is the proxy right, what does each technique bring, which sampler wins."""
