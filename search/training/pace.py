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
