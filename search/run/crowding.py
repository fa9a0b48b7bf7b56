"""Crowding: how much longer a worker takes while all workers of a run compute.

Workers share caches, memory and sometimes cores, so that two of them are less than twice as fast as
one. How much less depends on machine, networks and whatever else runs; it is measured once.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, median
from typing import cast

import torch

from ...cost_models.runtimes.torch import threads
from ...spaces import Candidate, SearchSpace
from ..config import RunConfig, TrainConfig
from ..data.augment import Views
from ..data.dataset import Data
from ..executors import ProcessExecutor
from ..training.losses import Lesson
from ..training.supernet import fresh, training_steps
from .pieces import FOREVER, Dial, OneBatch, noise_lesson, typical

TURNS = 3  # of training alone, and among all workers
WINDOW_S = 0.6  # of each of them
MARGIN_S = 0.3  # for which the others train longer, so that nobody is alone at the end
IMAGES = 8  # of a step

_under_way: dict[_Training, Iterator[float]] = {}  # in this process, so that each is set up once


@dataclass(frozen=True, eq=False)
class _Training:
    """Trains a candidate for some seconds and says how long a step took; it travels to workers."""

    candidate: Candidate
    recipe: TrainConfig
    lesson: Lesson

    def __call__(self, seconds: float) -> float:
        if self not in _under_way:
            _under_way[self] = self._steps()
            next(_under_way[self])  # with its setup
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() - start < seconds:
            next(_under_way[self])
            done += 1
        return (time.perf_counter() - start) / done

    def _steps(self) -> Iterator[float]:
        labels, no_views = self.lesson.labels, cast("Views", None)
        dial = Dial(len(labels))
        lessons = OneBatch(no_views, labels, torch.zeros(1, 0, 0), lesson=self.lesson, dial=dial)
        network = fresh(self.candidate, 0)
        return training_steps(self.candidate, network, lessons, self.recipe, 0, FOREVER)


@contextmanager
def other_workers(config: RunConfig) -> Generator[Executor | None]:
    """All workers of a run but one, which start at once; none where one computes alone.

    Those of a Ray cluster that runs elsewhere are not there to be measured.
    """
    executor = config.executor
    if executor.workers == 1 or executor.address:
        yield None
        return
    with ProcessExecutor(executor.workers - 1, max(1, executor.threads)) as others:
        yield others


def crowding(config: RunConfig, space: SearchSpace, data: Data, others: Executor | None) -> float:
    """Factor by which a training step in a worker takes longer while all workers train.

    Args:
        config: of the run.
        space: that it searches.
        data: as large as that of the run.
        others: from `other_workers`.
    """
    if not others:
        return 1.0
    candidate = typical(space, config.search.seed)[0]
    lesson = noise_lesson(data, IMAGES)
    recipe = config.finish if config.start.model else config.proxy
    train, count = _Training(candidate, recipe, lesson), config.executor.workers - 1
    ratios: list[float] = []
    with threads(max(1, config.executor.threads)):
        for started in [others.submit(train, 0.0) for _ in range(count)]:
            started.result()
        train(0.0)
        for _ in range(TURNS):
            alone = train(WINDOW_S)
            running = [others.submit(train, WINDOW_S + MARGIN_S) for _ in range(count)]
            together = [train(WINDOW_S), *(run.result() for run in running)]
            ratios.append(fmean(together) / alone)
    _under_way.clear()
    return max(1.0, median(ratios))
