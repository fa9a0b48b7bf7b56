"""A run: its folder is opened, its assets are loaded or made, its results are read."""
