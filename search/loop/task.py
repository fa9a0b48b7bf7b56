"""Proposer: who says what to try next, what it is told, and what it needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ...spaces import Scalar, SearchSpace
from ..pareto.objectives import Objective, Price


@dataclass(frozen=True, slots=True)
class Task:
    """What is searched, for what, and how long.

    Attributes:
        space: where to search.
        objectives: what is sought, and limits.
        costs: exact costs of candidates; a metric that is not among them must be scored.
        seed: of everything random.
        trials: how many proposals there will be.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    costs: Price
    seed: int
    trials: int


@dataclass(frozen=True, slots=True)
class Told:
    """An earlier trial: its choices, and its scores unless there are none."""

    assignment: Mapping[str, Scalar]
    scores: Mapping[str, float]


History = Callable[[], Sequence[Told]]


@runtime_checkable
class Proposer(Protocol):
    """Says what to try next; the same history gives the same proposals."""

    def propose(self, history: History) -> Mapping[str, Scalar] | None:
        """The next assignment, or None if nothing is left to try.

        Args:
            history: gives all earlier trials that have ended; not free, so it is only called
                when it is needed.
        """
        ...
