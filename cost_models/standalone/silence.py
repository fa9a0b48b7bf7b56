"""Silence: what libraries print goes nowhere, where others expect results.

It is copied into bundles and kits, beside graph.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Generator
from typing import Any

STREAMS = (1, 2)  # standard output and standard error
C = "ucrtbase" if os.name == "nt" else None  # library whose buffers others print into


@contextlib.contextmanager
def silent() -> Generator[None]:
    """Keep what a library prints, by whatever means, from standard output and standard error."""
    _flush()
    kept = [os.dup(stream) for stream in STREAMS]
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in STREAMS:
        os.dup2(nothing, stream)
    os.close(nothing)
    try:
        yield
    finally:
        _flush()
        for stream, before in zip(STREAMS, kept, strict=True):
            os.dup2(before, stream)
            os.close(before)


def _flush() -> None:
    """Write what was printed and waits, in Python and in C."""
    sys.stdout.flush()
    sys.stderr.flush()
    c: Any = ctypes.CDLL(C)
    c.fflush(None)
