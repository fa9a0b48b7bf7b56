"""Reading: every image of a listing is decoded once; a stopped reading goes on where it was.

Threads suffice, as Pillow decodes and resizes outside of Python's lock.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..console import progress
from ..cores import core_count
from .pixels import Look, UnreadableImage, pixel_limits, to_pixels, upright_size
from .sources.listing import Listing, some

CHUNK = 128  # images between two records
FASTER = 1.1  # gain of twice as many threads for which they are kept

Pixels = NDArray[np.uint8]  # (C, S, S)
# What becomes of the pixels of the image with an index; called in several threads.
Keep = Callable[[int, Pixels], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """An image that was read.

    Attributes:
        digest: of its content; empty where it could not be read.
        width: in pixels, upright.
        height: likewise.
        mode: Pillow's, of the file.
        reason: why it cannot be used; empty where it can.
        stamp: of its file, taken before it was read.
    """

    digest: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    reason: str = ""
    stamp: str = ""


def read_all(
    listing: Listing, look: Look, keep: Keep, log: Path | None = None
) -> tuple[list[Seen], int]:
    """Read every image of a listing: what was seen, and how many of the first the log knew.

    Args:
        listing: of the images.
        look: how networks see them.
        keep: takes the pixels of every image that can be read.
        log: remembers what was read; only images that could not be, or have changed since, are
            read again.
    """
    total = len(listing.entries)
    seen = _logged(log)[:total] if log else []
    known = len(seen)

    def read(index: int) -> Seen:
        stamp = listing.read.stamp(index)
        try:
            image, digest = listing.read(index)
            mode, (width, height) = image.mode, upright_size(image)
            keep(index, to_pixels(image, look))
        except UnreadableImage as error:
            return Seen(reason=error.reason)
        return Seen(digest, width, height, mode, stamp=stamp)

    label = f"reading {listing.name}"
    with pixel_limits(), progress(total, label, "image") as bar, _Threads() as threads:
        bar.update(len(seen))
        # What an image needs may be installed or allowed by now, or another be in its place.
        stale = (
            i for i, one in enumerate(seen) if one.reason or one.stamp != listing.read.stamp(i)
        )
        if again := [*stale]:
            for index, one in zip(again, threads.map(read, again), strict=True):
                seen[index] = one
        while len(seen) < total:
            chunk = range(len(seen), min(len(seen) + CHUNK, total))
            found = threads.map(read, chunk)
            if log:
                with log.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps([astuple(one) for one in found]) + "\n")
            seen += found
            bar.update(len(found))
    return seen, known


def unreadable(listing: Listing, seen: Sequence[Seen]) -> str:
    """How many images cannot be read, by reason, with the first of them."""
    names = defaultdict[str, list[str]](list)
    for entry, one in zip(listing.entries, seen, strict=True):
        if one.reason:
            names[one.reason].append(entry.name)
    total = sum(map(len, names.values()))
    listed = "; ".join(f"{len(found)} {reason}: {some(found)}" for reason, found in names.items())
    return f"{total} of {len(seen)} images cannot be read ({listed})"


def _logged(log: Path) -> list[Seen]:
    """What a stopped reading had seen, below a first line; one that was cut off does not count."""
    seen: list[Seen] = []
    for line in log.read_text(encoding="utf-8").splitlines()[1:]:
        try:
            seen += [Seen(*one) for one in json.loads(line)]
        except ValueError:
            break
    return seen


class _Threads:
    """As many threads as pay: from two on their number doubles while chunks become faster."""

    def __init__(self) -> None:
        self._most = core_count()
        self._pool = ThreadPoolExecutor(self._most)
        self._count, self._before = min(2, self._most), 1
        self._rate, self._growing = 0.0, True

    def __enter__(self) -> _Threads:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, read: Callable[[int], Seen], indices: Sequence[int]) -> list[Seen]:
        """Read a chunk."""
        start = time.perf_counter()
        parts = [indices[i :: self._count] for i in range(self._count)]
        done = list(self._pool.map(lambda part: [read(i) for i in part], parts))
        rate = len(indices) / (time.perf_counter() - start)
        found: list[Seen] = [Seen()] * len(indices)
        for i, part in enumerate(done):
            found[i :: self._count] = part
        if self._growing:
            self._grow(rate)
        return found

    def _grow(self, rate: float) -> None:
        if rate > FASTER * self._rate:
            self._rate, self._before = rate, self._count
            self._growing = self._count < self._most
            self._count = min(2 * self._count, self._most)
        else:  # the last doubling brought nothing
            self._count, self._growing = self._before, False
