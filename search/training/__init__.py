"""Training: teacher, supernet, single networks."""
