"""Task of a search, and the protocol of a proposer with the history that it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ...spaces import Scalar, SearchSpace
from ..pareto.objectives import Objective, Price


@dataclass(frozen=True, slots=True)
class Task:
    """A search to be made: space, objectives, costs and length.

    Attributes:
        space: where to search.
        objectives: metrics to trade, and limits.
        price: gives exact costs of candidates; a metric that is not among them must be scored.
        seed: of everything random.
        trials: number of proposals.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    price: Price
    seed: int
    trials: int


@dataclass(frozen=True, slots=True)
class Told:
    """An earlier trial: its choices, and its scores, which may be empty."""

    assignment: Mapping[str, Scalar]
    scores: Mapping[str, float]


History = Callable[[], Sequence[Told]]


@runtime_checkable
class Proposer(Protocol):
    """Proposes what to try next; the same history gives the same proposals."""

    def propose(self, history: History) -> Mapping[str, Scalar] | None:
        """The next assignment, or None if nothing is left to try.

        Args:
            history: gives all earlier trials that have ended; not free, so it is only called
                when it is needed.
        """
        ...
