"""Axes: shapes of any rank as the four axes at most that a value of ncnn has.

Values lie in memory as ONNX says, the last axis innermost, so that axes which are neighbors can be
taken together or apart at will.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

MOST = 4  # axes of a value, the batch not counted


def grouped(shape: Sequence[int], lies: Sequence[int]) -> list[list[int]] | None:
    """The axes of a shape that each axis of a value in memory is made of; None where it splits one.

    >>> grouped((1, 3, 4, 5), (3, 20))
    [[1], [2, 3]]
    >>> grouped((12, 5), (3, 20)) is None
    True
    """
    groups: list[list[int]] = []
    axis = 0
    for length in lies:
        group: list[int] = []
        while prod(shape[a] for a in group) < length and axis < len(shape):
            if shape[axis] > 1:
                group.append(axis)
            axis += 1
        if prod(shape[a] for a in group) != length:
            return None
        groups.append(group)
    return groups if all(shape[a] == 1 for a in range(axis, len(shape))) else None


def merged(shape: Sequence[int], kinds: Sequence[Hashable]) -> list[list[int]]:
    """Neighboring axes of one kind taken together; those of length 1 are in none.

    >>> merged((1, 3, 4, 5), "xaab")
    [[1, 2], [3]]
    """
    groups: list[list[int]] = []
    for axis, length in enumerate(shape):
        if length == 1:
            continue
        if groups and kinds[groups[-1][-1]] == kinds[axis]:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def lengths(shape: Sequence[int], groups: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Length of each group of axes; one of 1 where there is none.

    >>> lengths((1, 3, 4, 5), [[1, 2], [3]])
    (12, 5)
    """
    return tuple(prod(shape[axis] for axis in group) for group in groups) or (1,)


def plain(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without the axes of length 1 before the others.

    >>> plain((1, 1, 3, 1)), plain((1, 1))
    ((3, 1), (1,))
    """
    kept = list(shape)
    while len(kept) > 1 and kept[0] == 1:
        del kept[0]
    return tuple(kept)
