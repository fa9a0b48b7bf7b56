"""Tests shared out among processes, as `make test` does."""

import os

import pytest

MOST = 4  # more hold gigabytes of torch each, and wait for the longest test


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes of `-n auto`: one a core, as far as affinity and containers allow."""
    from vitpareto.search.cores import core_count  # whoever runs one file does not wait for it

    return min(core_count(), MOST)


def pytest_configure() -> None:
    """Each process has a core, and so have the programs that it starts."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
