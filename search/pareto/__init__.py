"""Pareto: objectives, fronts, and the volume that they dominate."""
