"""Writing files so that a killed process leaves the old one or the new one, never half of it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from .errors import RunError, WriteError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside its own, flush it to disk and rename it.

    Folders on the way are made.

    Raises:
        RunError: the folder cannot be written to, the disk is full, or the path has no name.
    """
    raw = content.encode() if isinstance(content, str) else content
    if not path.name:  # the current folder, or the root of a disk
        raise RunError(f"{path}: is a folder: name a file")
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # there only if something went wrong
        sync_folder(path.parent)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror or error}") from error


def append_synced(path: Path, lines: str) -> None:
    """Add whole lines to a file, in one piece and flushed to disk, so that a kill loses none.

    Raises:
        RunError: the file cannot be written, or the disk is full.
    """
    raw = lines.encode()
    try:
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            written = file.write(raw)
            if written != len(raw):  # else the next line would begin in the middle of this one
                file.truncate(before)
            os.fsync(file.fileno())
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror or error}") from error
    if written != len(raw):
        raise WriteError(f"{path}: only part of a line could be written: disk full?")


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder outlast a power cut."""
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
