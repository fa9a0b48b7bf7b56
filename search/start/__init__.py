"""Start: a trained vision transformer of others, read, checked and turned into a space."""
