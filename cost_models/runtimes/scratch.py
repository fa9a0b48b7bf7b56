"""Scratch files: in memory where that has room, else where most is free."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from ...spaces.errors import CostError

MEMORY = "/dev/shm"  # Linux; containers often give it 64 MB
ROOM = 2 << 30  # free bytes for a session's graphs, the largest of which protobuf can hold


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """A folder that is deleted with all its files.

    Raises:
        CostError: no room is left in it.
    """
    place = scratch_place()
    try:
        with tempfile.TemporaryDirectory(dir=place) as name:
            yield Path(name)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CostError(
            f"{place}: no room is left for scratch files, {_free(place) / 1e6:.0f} MB are free: "
            "name a folder with more in TMPDIR"
        ) from error


def scratch_place() -> str:
    """Where scratch files are written."""
    usual = tempfile.gettempdir()
    if not os.access(MEMORY, os.W_OK) or _free(MEMORY) < min(ROOM, _free(usual)):
        return usual
    return MEMORY


def _free(folder: str) -> int:
    return shutil.disk_usage(folder).free
