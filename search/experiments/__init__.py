"""Experiments on a run: checks of the proxy, a ladder of techniques, comparison of samplers."""
