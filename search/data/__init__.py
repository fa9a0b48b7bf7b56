"""Data: labeled images in splits that share no image."""
