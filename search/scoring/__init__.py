"""Scoring: what a candidate is worth, and the log of what was scored."""
