"""Objective: a metric to trade or to keep within a limit, and the front of many candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...spaces import Candidate
from ...spaces.errors import ConfigError
from .dominance import first_front

# Function that gives the exact costs of candidates, by name.
Price = Callable[[Sequence[Candidate]], Sequence[Mapping[str, float]]]
N = TypeVar("N", float, NDArray[np.float64])

MAXIMIZED = ("accuracy", "balanced_accuracy")
COSTS = ("latency_ms", "energy_mj", "peak_memory_mb", "size_mb", "macs", "params")
METRICS = (*MAXIMIZED, *COSTS)


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric of a candidate.

    Attributes:
        name: one of `METRICS`, which are as `by_device` has it where a run is for several devices;
            costs are minimized, accuracies are maximized.
        limit: the worst value that is still acceptable.
        traded: whether it is an objective; otherwise only its limit counts.

    Raises:
        ConfigError: a limit that is not above 0.
    """

    name: str
    limit: float | None = None
    traded: bool = True

    def __post_init__(self) -> None:
        if self.limit is not None and not self.limit > 0:  # excess is relative to it; nan is none
            raise ConfigError(f"a limit of {self.name} is above 0, got {self.limit!r}")

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.name in MAXIMIZED

    def violation(self, value: N) -> N:
        """Excess of a value over the limit, relative to it; at most 0 where it is kept.

        >>> Objective("latency_ms", 2.0).violation(3.0)
        0.5
        >>> Objective("accuracy", 0.8).violation(0.4)
        0.5
        """
        excess = value * 0 if self.limit is None else value / self.limit - 1
        return -excess if self.maximize else excess

    def loss(self, value: N) -> N:
        """The value with its sign such that less is better."""
        return -value if self.maximize else value


def goal(objectives: Sequence[Objective]) -> str:
    """The accuracy that a run maximizes: the first that it names, otherwise the plain one.

    >>> goal([Objective("latency_ms"), Objective("balanced_accuracy", 0.9, traded=False)])
    'balanced_accuracy'
    """
    return next((o.name for o in objectives if o.maximize), MAXIMIZED[0])


def spelled(metric: str) -> str:
    """Name of a metric for people.

    >>> spelled("balanced_accuracy")
    'balanced accuracy'
    """
    return metric.replace("_", " ")


class Scored(Protocol):
    """Anything with metrics."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Values by name."""
        ...


S = TypeVar("S", bound=Scored)


def violations(metrics: Mapping[str, N], objectives: Sequence[Objective]) -> dict[str, N]:
    """Violation of every limit on a metric that is known."""
    return {
        o.name: o.violation(metrics[o.name])
        for o in objectives
        if o.limit is not None and o.name in metrics
    }


def pareto_front(scored: Sequence[S], objectives: Sequence[Objective]) -> list[S]:
    """Items within all limits that no other one dominates, the best in the first objective first.

    Of several with equal values the first is kept.
    """
    within = [s for s in scored if all(v <= 0 for v in violations(s.metrics, objectives).values())]
    traded = [o for o in objectives if o.traded]
    losses = [[o.loss(s.metrics[o.name]) for o in traded] for s in within]
    points = np.array(losses, float).reshape(len(within), len(traded))
    return [within[i] for i in first_front(points)]
