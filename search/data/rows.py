"""Rows: pixels of images, in memory or in a memory-mapped file that all processes share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...spaces.errors import RunError
from .pixels import Look

Mapped = np.memmap[Any, np.dtype[np.uint8]]
IN_MEMORY_MB = 64  # of pixels that are held, and travel, as they are


class Rows(Protocol):
    """Pixels of images, uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Images by their numbers (B,): (B, C, S, S)."""
        ...


class MappedRows:
    """Some rows of a file of pixels. A copy in another process maps the file, too.

    Args:
        path: of the file.
        shape: of all of its images, (N, C, S, S).
        index: rows that are meant (M,).
    """

    def __init__(self, path: Path, shape: tuple[int, ...], index: Tensor) -> None:
        self._path, self._shape, self._index = path.absolute(), shape, index
        self._mapped: Mapped | None = None

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Images by their numbers (B,): (B, C, S, S)."""
        if self._mapped is None:
            self._mapped = open_pixels(self._path, self._shape)
        return torch.from_numpy(self._mapped[self._index[index].numpy()])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mapped": None}


def rows_of(path: Path, shape: tuple[int, ...], index: Tensor) -> Rows:
    """Some rows of a file of pixels, in memory if they are few.

    Args:
        path: of the file.
        shape: of all of its images, (N, C, S, S).
        index: rows that are meant (M,).

    Raises:
        RunError: the file is missing, or not as large as its images.
    """
    mapped = MappedRows(path, shape, index)
    few = mapped[torch.arange(min(1, len(index)))]  # raises
    if few.nbytes * len(index) > IN_MEMORY_MB * 2**20:
        return mapped
    return mapped[torch.arange(len(index))]


def open_pixels(path: Path, shape: tuple[int, ...], create: bool = False) -> Mapped:
    """A memory-mapped file of pixels (N, C, S, S).

    Raises:
        RunError: it is missing, not as large as its images, or cannot be written.
    """
    try:
        if create and not path.exists():
            return np.memmap(path, np.uint8, "w+", shape=shape)
        if path.stat().st_size != np.prod(shape, dtype=np.int64):
            raise RunError(f"{path}: not as large as {shape[0]:,} images: start a new run")
        return np.memmap(path, np.uint8, "r+" if create else "r", shape=shape)
    except OSError as error:
        raise RunError(
            f"{path}: {(error.strerror or str(error)).lower()}: every process of a run, on this "
            "machine and on others, needs the run folder"
        ) from error


def check_room(folder: Path, look: Look, images: int) -> None:
    """Check that the pixels of a run have room in its folder.

    Raises:
        RunError: more would be needed than half of what is free.
    """
    needed = images * look.channels * look.size**2
    free = shutil.disk_usage(folder).free
    if needed > free / 2:
        raise RunError(
            f"{folder}: {images:,} images at {look.size} pixels need {needed / 1e9:.1f} GB, of "
            f"{free / 1e9:.1f} GB that are free: set data.limit, or --run-dir on another disk"
        )
