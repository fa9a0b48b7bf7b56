"""Counting: how many assignments satisfy a set of constraints, exactly.

Variable elimination on a factor graph (Dechter 1999, bucket elimination) with Python integers:
variables are summed out one by one, the one that leaves the smallest table first. The work
grows with the widest table, not with the number of assignments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Factor = tuple[tuple[int, ...], NDArray[Any]]


def count(sizes: Mapping[int, int], factors: Sequence[Factor]) -> int:
    """Number of assignments on which every factor is true.

    Args:
        sizes: variable -> number of its values.
        factors: (variables, table of that many axes), tables of 0 and 1.

    >>> differ = 1 - np.eye(3, dtype=int)
    >>> count({0: 3, 1: 3, 2: 3, 3: 10}, [((0, 1), differ), ((1, 2), differ)])
    120
    """
    open_factors = [(names, table.astype(object)) for names, table in factors]
    free = set(sizes)
    total = 1
    while free:
        name = min(free, key=lambda v: _width(v, open_factors, sizes))
        free.remove(name)
        touching = [f for f in open_factors if name in f[0]]
        open_factors = [f for f in open_factors if name not in f[0]]
        if not touching:
            total *= sizes[name]
            continue
        names, table = reduce(_multiply, touching)
        axis = names.index(name)
        rest = names[:axis] + names[axis + 1 :]
        open_factors.append((rest, table.sum(axis=axis)))
    return total * prod(int(np.asarray(table).item()) for _, table in open_factors)


def _width(name: int, factors: Sequence[Factor], sizes: Mapping[int, int]) -> int:
    joined = {v for names, _ in factors if name in names for v in names}
    return prod(sizes[v] for v in joined)


def _multiply(left: Factor, right: Factor) -> Factor:
    names = left[0] + tuple(v for v in right[0] if v not in left[0])
    return names, _spread(left, names) * _spread(right, names)


def _spread(factor: Factor, names: tuple[int, ...]) -> NDArray[Any]:
    """The table with one axis for each of `names`, of length 1 where it does not depend."""
    own, table = factor
    order = [own.index(v) for v in names if v in own]
    shape = [table.shape[own.index(v)] if v in own else 1 for v in names]
    return np.asarray(table).transpose(order).reshape(shape)
