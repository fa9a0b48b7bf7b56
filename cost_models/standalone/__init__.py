"""Standalone: what measures another machine with numpy and its runtime alone."""
