"""Data: labelled images in splits that keep apart what must not meet."""
