"""Hypervolume: how much of the space of objectives a front dominates, exactly.

Everything here is minimized; see `Objective.loss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...spaces import SearchSpace
from .dominance import nondominated
from .objectives import Objective, Price

Array = NDArray[np.float64]
SURVEY = 64  # candidates that are asked what a space costs, beside the smallest and the largest


def hypervolume(points: Array, reference: Array) -> float:
    """Volume that is dominated by points and dominates the reference.

    Two objectives by a sweep, more by the WFG recursion on exclusive volumes (While, Bradstreet
    and Barone, IEEE Transactions on Evolutionary Computation 16(1), 2012).

    Args:
        points: (N, M), less is better; points that are not better than the reference count nothing.
        reference: (M,).
    """
    return _volume(reference - points[(points < reference).all(1)])


def exclusive(point: Array, points: Array, reference: Array) -> float:
    """Volume that a point (M,) would add to the hypervolume of points (N, M)."""
    gain = reference - point
    if (gain <= 0).any():
        return 0.0
    return _exclusive(gain, np.maximum(reference - points, 0.0))


def _volume(gains: Array) -> float:
    """Union of the boxes from the origin to each of (N, M) points, all coordinates above 0."""
    if gains.shape[1] == 1:
        return float(gains.max(initial=0.0))
    gains = gains[np.argsort(-gains[:, 0], kind="stable")]
    if gains.shape[1] == 2:
        reached = np.maximum.accumulate(gains[:, 1])
        return float((gains[:, 0] * np.diff(reached, prepend=0.0)).sum())
    return sum(_exclusive(point, gains[:i]) for i, point in enumerate(gains))


def _exclusive(gain: Array, others: Array) -> float:
    """Volume of a box less what other boxes cover of it."""
    limited = np.minimum(gain, others)
    limited = limited[(limited > 0).all(1)]
    if len(limited) > 1 and len(gain) > 2:
        limited = limited[nondominated(-limited)]
    return float(gain.prod()) - _volume(limited)


@dataclass(frozen=True)
class Box:
    """The part of the space of objectives that counts, scaled to sides of 1.

    Attributes:
        best: losses (M,) that become 0.
        worst: losses (M,) that become 1; where the hypervolume ends.
    """

    best: Array
    worst: Array

    @classmethod
    def of_points(cls, points: Array, margin: float = 0.1) -> Box:
        """Box around a front (N, M), with a margin so that its ends count too."""
        best, worst = points.min(0), points.max(0)
        return cls(best, worst + margin * np.where(worst > best, worst - best, 1.0))

    @classmethod
    def of_space(
        cls,
        space: SearchSpace,
        objectives: Sequence[Objective],
        price: Price,
    ) -> Box:
        """Box from the lowest costs in a space to the limits, or to the highest costs.

        These are mostly those of the smallest and the largest network, but not always: weights of
        4 bits may take longer than those of 8. So some others are asked, too. A metric that is no
        cost is a share: it spans 0 or its limit to 1.
        """
        costs = price([space.smallest(), space.largest(), *space.sample(SURVEY, 0)])
        pairs: list[tuple[float, float]] = []
        for o in objectives:
            if o.traded:
                values = [0.0, 1.0] if o.maximize else [cost[o.name] for cost in costs]
                losses = list(map(o.loss, values))
                worst = max(losses) if o.limit is None else o.loss(o.limit)
                pairs.append((min(losses), max(worst, min(losses) + 1e-9)))
        best, worst = np.array(pairs).T
        return cls(best, worst)

    def scale(self, points: Array) -> Array:
        """Losses (N, M) with `best` and all below it at 0, and `worst` at 1."""
        return np.maximum((points - self.best) / (self.worst - self.best), 0.0)

    def volume(self, points: Array) -> float:
        """Share of the box that is dominated: 0 to 1."""
        scaled = self.scale(points.reshape(-1, len(self.best)))
        return hypervolume(scaled, np.ones(len(self.best)))


class Archive:
    """The front of all that was added, and its hypervolume, kept up to date.

    Args:
        box: part of the space of objectives that counts.

    Attributes:
        losses: of the front (N, M).
        volume: share of the box that it dominates.
    """

    def __init__(self, box: Box) -> None:
        self.box = box
        self.volume = 0.0
        self.losses = np.empty((0, len(box.best)))

    def add(self, losses: Sequence[float]) -> float:
        """Add a point (M,) and return by how much the hypervolume grows."""
        point = np.asarray(losses, float)
        if (self.losses <= point).all(1).any():
            return 0.0
        scaled, others = self.box.scale(point), self.box.scale(self.losses)
        gain = exclusive(scaled, others, np.ones(len(point)))
        self.losses = np.vstack([self.losses[~(point <= self.losses).all(1)], point])
        self.volume += gain
        return gain
