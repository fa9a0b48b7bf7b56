"""Program: `predict.py`, which is delivered with a model and needs nothing of ours."""
