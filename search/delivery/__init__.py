"""Delivery: from a finished network to files that were measured and verified."""
