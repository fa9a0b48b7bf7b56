"""Cores that this process may use."""

from __future__ import annotations

from joblib import cpu_count


def core_count() -> int:
    """Number of cores, as far as affinity and containers allow, on every system."""
    return cpu_count()
