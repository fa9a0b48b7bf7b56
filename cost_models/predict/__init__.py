"""Prediction: cost models that are fitted to tables and asked about candidates."""
