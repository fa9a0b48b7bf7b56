"""Dominance: which of many points no other one dominates, without a comparison of each to each.

Everything here is minimized; see `Objective.loss`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def first_front(points: Array) -> list[int]:
    """Indices of the points (N, M) that no other one dominates, in lexicographic order.

    Of equal ones it has the first.
    """
    found: list[int] = []
    left = np.lexsort(points.T[::-1])
    while len(left):  # nothing is dominated by what comes after it
        best, left = left[0], left[1:]
        found.append(int(best))
        left = left[~(points[best] <= points[left]).all(1)]
    return found


def nondominated(points: Array) -> NDArray[np.bool_]:
    """Mask of the points (N, M) that no other one dominates; of equal ones the first."""
    mask = np.zeros(len(points), bool)
    mask[first_front(points)] = True
    return mask


def ranks(points: Array) -> NDArray[np.intp]:
    """Front of each of (N, M) points: 0 where nothing dominates it, 1 where only those do, ..."""
    fronts = np.zeros(len(points), np.intp)
    left, rank = np.arange(len(points)), 0
    while len(left):
        best = nondominated(points[left])
        fronts[left[best]] = rank
        left, rank = left[~best], rank + 1
    return fronts
