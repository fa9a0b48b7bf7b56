"""Timing: how long pieces of work take on a machine that others use, too.

Work on a batch that takes long is timed with few images and with fewer. The difference tells what
an image takes, and the rest what a step takes in any case, which is not little: a teacher's step
with 4 images takes a quarter of the time of one with 64.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median_low
from typing import TypeVar

N = TypeVar("N")

ROUNDS = 3  # in which all works take turns, so that a slow moment strikes none of them alone
MOST_S = 1.0  # of timing for each work, or else a single time
GROWTH = 4  # factor by which images grow, at least once ...
LIMIT_S = 4.0  # ... and as long as all of them cannot take longer than this ...
PART_S = 8.0  # ... or part of them than this


@dataclass
class Work:
    """A piece of work, and how long it took with some of its images.

    Attributes:
        do: does it with some images.
        images: of all of it; 1 for work that cannot be divided.
    """

    do: Callable[[int], object]
    images: int = 1
    _times: dict[int, list[float]] = field(default_factory=dict[int, list[float]], init=False)

    def begin(self) -> None:
        """Find how many images can be timed; the first time, which includes setup, is not one."""
        self.do(1)
        self._time(1)
        while (part := self._most) < self.images:
            more = min(self.images, GROWTH * part)
            limit = LIMIT_S if more == self.images else PART_S
            if len(self._times) > 1 and GROWTH * self._median(part) > limit:
                break
            self._time(more)

    def repeat(self) -> None:
        """Time it once more, unless that took long; or longer than its images can take."""
        part = self._most
        less, short = self._before(part)
        stalled = self._median(part) > part / less * short
        if sum(self._times[part]) < MOST_S or stalled:
            self._time(part)

    def seconds(self, images: int | None = None) -> float:
        """Duration with a number of images, by default all."""
        images = images or self.images
        most = self._most
        long = self._median(most)
        less, short = self._before(most)
        if most == less:
            return long
        each = min(max(long - short, 0.0) / (most - less), long / most)
        return long + each * (images - most)

    @property
    def _most(self) -> int:
        return max(self._times)

    def _before(self, part: int) -> tuple[int, float]:
        """The next lower number of images, or the same where none is, and how long it took."""
        less = max((n for n in self._times if n < part), default=part)
        return less, self._median(less)

    def _median(self, images: int) -> float:
        return median_low(self._times[images])  # of two the lower, as other work only slows

    def _time(self, images: int) -> None:
        start = time.perf_counter()
        self.do(images)
        self._times.setdefault(images, []).append(time.perf_counter() - start)


def timed(works: Mapping[N, Work]) -> Mapping[N, Work]:
    """The same works, all timed in turn."""
    for work in works.values():
        work.begin()
    for _ in range(ROUNDS - 1):
        for work in works.values():
            work.repeat()
    return works
