"""Turning: axes of any number in another order, in steps of four axes at most.

Axes that stay together count as one, and what is still too much for one step may go in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

from .axes import MOST


@dataclass(frozen=True)
class Step:
    """One change of order.

    Attributes:
        before: axes as they lie before it.
        groups: places of axes in `before` that stay together.
        order: of the groups after it.
    """

    before: tuple[int, ...]
    groups: list[list[int]]
    order: list[int]


def in_steps(axes: Sequence[int]) -> list[Step] | None:
    """Steps from ascending axes to those of another order; None where two steps do not do.

    >>> [step.groups for step in in_steps((1, 2, 0)) or []]
    [[[0], [1, 2]]]
    """
    start, end = tuple(sorted(axes)), tuple(axes)
    direct = _step(start, end)
    if len(direct.groups) <= MOST:
        return [direct]
    if len(axes) > MOST + 2:
        return None
    pairs = ((_step(start, middle), _step(middle, end)) for middle in permutations(start))
    fitting = [p for p in pairs if all(len(step.groups) <= MOST for step in p)]
    if not fitting:
        return None
    return list(min(fitting, key=lambda pair: sum(len(step.groups) for step in pair)))


def _step(before: tuple[int, ...], after: tuple[int, ...]) -> Step:
    places = [before.index(axis) for axis in after]
    together = {second for first, second in pairwise(places) if second == first + 1}
    groups: list[list[int]] = []
    for place in range(len(before)):
        if place in together:
            groups[-1].append(place)
        else:
            groups.append([place])
    order = sorted(range(len(groups)), key=lambda group: places.index(groups[group][0]))
    return Step(before, groups, order)
