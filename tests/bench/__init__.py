"""Benchmarks: figures beside their bars, printed and never asserted."""
