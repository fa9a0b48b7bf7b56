"""Scoring: scores of candidates, and the log that keeps them."""
