"""The loop over a table: what scoring would say is known, so that it costs nothing."""

import pytest

from .table import Table, make_table


@pytest.fixture(scope="session")
def table() -> Table:
    """3,564 candidates."""
    return make_table(3)
