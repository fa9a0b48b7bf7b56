"""Calibration: measuring within a budget, here or on another machine, and fitting."""
