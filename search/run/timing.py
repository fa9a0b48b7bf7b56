"""Timing: how long pieces of work take on a machine that others use, too.

Work on a batch that takes long is timed with fewer images, and the time is scaled: what does not
grow with them, such as a step of the optimizer, is little of what takes a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

N = TypeVar("N")

ROUNDS = 3  # in which all works take turns, so that a slow moment strikes none of them alone
MOST_S = 0.6  # of timing for each work, or else its fewest repetitions
FEWEST = 1
FEW = 4  # images of the first time that counts
GROWTH = 4  # factor by which they grow as long as that takes no time


@dataclass
class Work:
    """A piece of work, and how long parts of it took.

    Attributes:
        do: does it with some of its images.
        images: of all of it; 1 for work that cannot be divided.
    """

    do: Callable[[int], object]
    images: int = 1
    _part: int = field(default=1, init=False)
    _seconds: list[float] = field(default_factory=list[float], init=False)

    def begin(self) -> None:
        """Find how many images can be timed; the first time, which includes setup, is not one."""
        self.do(1)
        self._part = min(FEW, self.images)
        first = self._time(self._part)
        while self._part < self.images and GROWTH * first < MOST_S:
            self._part = min(self.images, GROWTH * self._part)
            first = self._time(self._part)
        part = min(self.images, round(self._part * max(1.0, MOST_S / max(first, 1e-9))))
        self._seconds = [first] if part == self._part else []
        self._part = part

    def repeat(self) -> None:
        """Time it once more."""
        self._seconds.append(self._time(self._part))

    @property
    def is_timed(self) -> bool:
        """Whether that took long enough."""
        return len(self._seconds) >= FEWEST and sum(self._seconds) > MOST_S

    @property
    def seconds(self) -> float:
        """Median duration of all of it."""
        return median(self._seconds) * self.images / self._part

    def _time(self, images: int) -> float:
        start = time.perf_counter()
        self.do(images)
        return time.perf_counter() - start


def median_seconds(works: Mapping[N, Work]) -> dict[N, float]:
    """Median duration of each work, by name; all are timed in turn."""
    for work in works.values():
        work.begin()
    for _ in range(ROUNDS):
        for work in works.values():
            if not work.is_timed:
                work.repeat()
    return {name: work.seconds for name, work in works.items()}
