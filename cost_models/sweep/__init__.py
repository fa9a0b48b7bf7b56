"""Sweeps: one model under other sizes, batches, threads and options of its runtime."""
