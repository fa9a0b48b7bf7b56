"""Subset of a front: the few members that together dominate the most.

Members that are spread evenly over a front waste places on its ends, where a little less latency
costs half the accuracy, or a little more accuracy half the speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .hypervolume import Array, Box
from .objectives import Objective, S


def dominant(front: Sequence[S], n: int, objectives: Sequence[Objective]) -> list[S]:
    """At most `n` members of a front that dominate the largest hypervolume, the cheapest first.

    The best in the first objective is always one of them. Costs count by ratios: from 1 to 2 ms is
    as far as from 10 to 20 ms. The choice is exact, as in two objectives what a member adds depends
    on its neighbors alone (Auger, Bader, Brockhoff and Zitzler, "Theory of the hypervolume
    indicator", FOGA 2009).

    Args:
        front: members of which none dominates another in these objectives.
        n: at least 1.
        objectives: one or two.
    """
    ordered = sorted(front, key=lambda s: objectives[0].loss(s.metrics[objectives[0].name]))[::-1]
    if n >= len(ordered) or len(objectives) == 1:
        return ordered[-n:]
    losses = np.array([[_loss(o, s.metrics[o.name]) for o in objectives] for s in ordered])
    return [ordered[i] for i in _most_dominant(Box.of_points(losses).scale(losses), n)]


def _most_dominant(losses: Array, n: int) -> list[int]:
    """Indices of `n` points that dominate most of the unit square, the last one included.

    Args:
        losses: (N, 2) of a front, the first falling and the second rising.
        n: at most N.
    """
    x, y = losses.T
    strips = np.where(np.tri(len(x), k=-1).T > 0, (x[:, None] - x) * (1.0 - y), -math.inf)
    area = (1.0 - x) * (1.0 - y)  # (N,): of the best of so many points that end with each
    before: list[NDArray[np.intp]] = []
    for _ in range(n - 1):
        added = area[:, None] + strips  # (N, N): from the point before it to each
        before.append(added.argmax(0))
        area = added.max(0)
    chosen = [len(x) - 1]
    for best in reversed(before):
        chosen.append(int(best[chosen[-1]]))
    return chosen[::-1]


def _loss(objective: Objective, value: float) -> float:
    """What is minimized: the logarithm of a cost."""
    return objective.loss(value) if objective.maximize else math.log(max(value, math.ulp(0.0)))
