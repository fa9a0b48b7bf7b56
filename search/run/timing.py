"""Timing: how long pieces of work take on a machine that others use, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeVar

N = TypeVar("N")

ROUNDS = 3  # in which all works take turns, so that a slow moment strikes none of them alone
MOST_S = 1.0  # of timing for each work, or else its fewest repetitions
FEWEST = 1


def median_seconds(works: Mapping[N, Callable[[], object]]) -> dict[N, float]:
    """Median duration of each work, by name; all are timed in turn.

    The first time of a work, which includes its setup, does not count.
    """
    for work in works.values():
        work()
    seconds: dict[N, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS):
        for name, work in works.items():
            if turn >= FEWEST and sum(seconds[name]) > MOST_S:
                continue
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(each) for name, each in seconds.items()}
