"""Run: opening its folder, making or loading its assets, reading its results."""
