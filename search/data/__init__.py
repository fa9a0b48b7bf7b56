"""Data: labeled images in splits that keep apart what must not meet."""
