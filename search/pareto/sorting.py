"""Sorting: survivors of a population, by front and by crowding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .dominance import ranks

Array = NDArray[np.float64]


def survival(values: Array, excess: Array) -> NDArray[np.intp]:
    """Indices, the fittest first: by excess over limits, then front, then crowding."""
    rank, crowded = np.zeros(len(values), int), np.zeros(len(values))
    within = excess <= 0
    rank[within] = ranks(values[within])
    for front in np.unique(rank[within]):
        members = np.flatnonzero(within & (rank == front))
        crowded[members] = crowding(values[members])
    return np.lexsort((-crowded, rank, np.maximum(excess, 0.0)))


def crowding(values: Array) -> Array:
    """Crowding distance of each of (N, M) points of one front; infinite at both ends."""
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        width = ordered[-1] - ordered[0]
        distances[order[[0, -1]]] = np.inf
        if width > 0:
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / width
    return distances
