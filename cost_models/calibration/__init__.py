"""Calibration: what to measure within a budget, here or on another machine."""
