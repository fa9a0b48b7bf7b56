"""Counting: how many assignments satisfy a set of constraints, exactly.

Variable elimination on a factor graph (Dechter 1999, bucket elimination) with Python integers:
variables are summed out one by one, the one that leaves the smallest table first. The work
grows with the widest table, not with the number of assignments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import Layout, Test

Factor = tuple[tuple[int, ...], NDArray[Any]]


class FactorGraph:
    """Tables of 0 and 1 over the variables of a layout and over added two-valued ones.

    Args:
        layout: gives the variables and their values.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.sizes = [len(choice.values) for choice in layout.variables]
        self.factors: list[Factor] = []

    def require(self, reads: Sequence[int], bits: Sequence[int], test: Callable[..., bool]) -> None:
        """Admit only what passes `test(values, *bits)`.

        Args:
            reads: variables of the layout that the test reads.
            bits: added variables whose values are given to the test.
            test: the test.
        """
        cells = [
            test(values, *states)
            for values in self.layout.assignments(reads)
            for states in np.ndindex(*[2] * len(bits))
        ]
        names = (*reads, *bits)
        shape = [self.sizes[name] for name in names]
        self.factors.append((names, np.array(cells, dtype=object).reshape(shape) * 1))

    def any_of(self, tests: Iterable[tuple[Sequence[int], Test]], before: int | None = None) -> int:
        """Add a variable that is 1 where `before`, an added variable, or any test is true.

        The tests become a chain, each link joined with the last one only, so that no table
        has to hold all of them.
        """
        last = before
        for reads, test in tests:
            new = len(self.sizes)
            self.sizes.append(2)
            if last is None:
                self.require(reads, [new], lambda values, n, t=test: n == t(values))
            else:
                self.require(
                    reads, [last, new], lambda values, old, n, t=test: n == (old or t(values))
                )
            last = new
        assert last is not None
        return last

    def count(self) -> int:
        """Number of assignments that every table admits."""
        factors = self.factors
        free = set(range(len(self.sizes)))
        total = 1
        while free:
            name = min(free, key=lambda v: self._width(v, factors))
            free.remove(name)
            touching = [f for f in factors if name in f[0]]
            factors = [f for f in factors if name not in f[0]]
            if not touching:
                total *= self.sizes[name]
                continue
            names, table = reduce(_multiply, touching)
            axis = names.index(name)
            factors.append((names[:axis] + names[axis + 1 :], table.sum(axis=axis)))
        return total * prod(int(np.asarray(table).item()) for _, table in factors)

    def _width(self, name: int, factors: Sequence[Factor]) -> int:
        joined = {v for names, _ in factors if name in names for v in names}
        return prod(self.sizes[v] for v in joined)


def _multiply(left: Factor, right: Factor) -> Factor:
    names = left[0] + tuple(v for v in right[0] if v not in left[0])
    return names, _spread(left, names) * _spread(right, names)


def _spread(factor: Factor, names: tuple[int, ...]) -> NDArray[Any]:
    """The table with one axis for each of `names`, of length 1 where it does not depend."""
    own, table = factor
    order = [own.index(v) for v in names if v in own]
    shape = [table.shape[own.index(v)] if v in own else 1 for v in names]
    return np.asarray(table).transpose(order).reshape(shape)
