"""Pace: trainings that end in time, because what is left of their schedules is cut or stretched.

A machine whose speed swings makes any number of passes chosen beforehand wrong. A schedule is a
function of the share that is done, so the rest of it can be run in more or fewer steps: rate,
ramp and share go on from where they were.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from .checkpoint import State
from .optimizer import Optimizer

LOOK_S = 10.0  # between two looks at the clock in a single training
NEAR = 0.05  # relative deviation that is left alone
CHANGE = 0.2, 2.0  # of the steps that are left, at one time


def resized(state: State, factor: float, steps: int, least: int, most: int) -> State:
    """A state whose remaining steps are multiplied by a factor, at the same share of the whole.

    Args:
        state: after some steps.
        factor: of those that are left.
        steps: of the whole, so far.
        least: steps that are left, unless fewer are by now.
        most: steps of the whole.
    """
    rest = steps - state.step
    fewest = min(rest, least)
    wanted = max(fewest, round(rest * factor))
    whole = min(most, round(wanted * steps / rest))
    done = round(whole * state.step / steps)
    return State(done, state.tensors, {**state.notes, "steps": max(whole, done + 1)})


def makespan(running: Sequence[float], waiting: Sequence[float], at_once: int) -> float:
    """Seconds until all is done, each taken by whoever is free first.

    Args:
        running: seconds that are left of what has begun.
        waiting: of what has not, in order.
        at_once: how many run at a time.
    """
    loads = [*running, *[0.0] * (at_once - len(running))]
    heapq.heapify(loads)
    for seconds in waiting:
        heapq.heapreplace(loads, loads[0] + seconds)
    return max(loads)


@dataclass
class Pace:
    """How fast trainings go, and how long they may take together.

    Attributes:
        end: time at which they shall have ended, of `time.monotonic`.
        planned: seconds of a step, by key, before any was made.
        seen: likewise, as it then was.
    """

    end: float
    planned: Mapping[str, float]
    seen: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def know(self, name: str, key: str) -> None:
        """Plan a training under another name as that of a key."""
        self.planned = {**self.planned, name: self.planned[key]}

    def step_s(self, key: str) -> float:
        """Seconds of a step of a training; others may have shown how busy the machine is."""
        if key in self.seen:
            return self.seen[key]
        slower = [seen / self.planned[other] for other, seen in self.seen.items()]
        return self.planned[key] * (fmean(slower) if slower else 1.0)

    def factor(self, running: Mapping[str, int], waiting: Mapping[str, int], at_once: int) -> float:
        """What to multiply the remaining steps of a training by.

        Args:
            running: key -> steps that are left.
            waiting: likewise, of those that have not begun.
            at_once: trainings at a time.
        """
        needed = makespan(
            [self.step_s(key) * steps for key, steps in running.items()],
            [self.step_s(key) * steps for key, steps in waiting.items()],
            at_once,
        )
        factor = max(self.left_s, 0.0) / max(needed, 1e-9)
        return 1.0 if abs(factor - 1) < NEAR else min(max(factor, CHANGE[0]), CHANGE[1])


@dataclass
class Limit:
    """How long work may take, and what it came to.

    Attributes:
        end: time at which it shall have ended, of `time.monotonic`.
        passes: over the train split, of a training, however much time there is.
        made: passes that a training has made so far.
    """

    end: float
    passes: int = 0
    made: float = 0.0

    def is_over(self, begun: float, done: int, at_once: int) -> bool:
        """Whether one more piece of work would not end in time, going by those so far.

        Args:
            begun: time at which the first one began.
            done: pieces so far.
            at_once: pieces that are under way at a time, the new one included.
        """
        now = time.monotonic()
        return done > 0 and now + at_once * (now - begun) / done > self.end


class Schedule:
    """Steps of one training, whose rest is cut or stretched where it has a limit.

    Args:
        steps: of the whole.
        each: of a pass; the last one is made in any case.
        limit: if any, which is told how many passes are made.
        done: steps that were made before.

    Attributes:
        steps: of the whole, as it is now.
    """

    def __init__(self, steps: int, each: int, limit: Limit | None = None, done: int = 0) -> None:
        self.steps, self._each, self._limit = steps, each, limit
        if limit:
            limit.made = done / each
        self._planned, self._looked, self._made = steps, time.monotonic(), 0

    def share(self, done: int) -> int:
        """Steps of the planned whole at the same share, for progress."""
        return round(self._planned * done / self.steps)

    def follow(self, optimizer: Optimizer) -> None:
        """Look at the clock after a step, now and then."""
        self._made += 1
        if self._limit:
            self._limit.made += 1 / self._each
        now, done = time.monotonic(), optimizer.done
        if not self._limit or now - self._looked < LOOK_S or done >= self.steps:
            return
        pace = Pace(self._limit.end, {}, {"": (now - self._looked) / self._made})
        self._looked, self._made = now, 0
        factor = pace.factor({"": self.steps - done}, {}, 1)
        if factor != 1:
            most = self._limit.passes * self._each
            state = resized(State(done, {}, {}), factor, self.steps, self._each, most)
            self.steps = state.notes["steps"]
            optimizer.resize(state.step, self.steps)
