"""Cores that this process may use."""

from __future__ import annotations

from joblib import cpu_count


def core_count() -> int:
    """Number of cores, as far as affinity and quota of a container allow, on every system.

    OMP_NUM_THREADS does not count: clusters and shells set it for programs that have no number of
    threads of their own, as `executor.threads` is.
    """
    return cpu_count()
