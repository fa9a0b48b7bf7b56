"""Standalone: files that measure another machine with numpy and its runtime alone."""
