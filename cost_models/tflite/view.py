"""View: a value of an ONNX graph as it lies in memory, whose axes may be in another order.

A Transpose costs nothing until an operator needs another order: it is only noted. So what runs is
channels last where convolutions want it, and transposes that cancel are never made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A tensor of the file, and which axis of the ONNX value lies where in it.

    Attributes:
        tensor: index in the file.
        lies: shape in memory.
        order: for each axis in memory, the axis of the ONNX value.
    """

    tensor: int
    lies: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the ONNX value."""
        return tuple(self.lies[self.place(axis)] for axis in range(len(self.order)))

    @property
    def plain(self) -> bool:
        """Whether it lies as ONNX says."""
        return self.order == tuple(range(len(self.order)))

    def place(self, axis: int) -> int:
        """Where an axis of the ONNX value, negative from the end, is in memory."""
        return self.order.index(axis % len(self.order))

    def transposed(self, axes: Sequence[int]) -> View:
        """The value of ONNX's Transpose: nothing moves."""
        return View(self.tensor, self.lies, tuple(axes.index(axis) for axis in self.order))


def plainly(tensor: int, shape: Sequence[int]) -> View:
    """A tensor that lies as ONNX says."""
    return View(tensor, tuple(shape), tuple(range(len(shape))))


def regrouped(view: View, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Shape in memory and order of a reshaped value, if its elements can stay where they are.

    Axes are split and merged in groups: (2, 6, 5) -> (2, 2, 3, 5) has the groups 2, 6, 5. That
    needs no copy if the axes of each group follow each other in memory as in the value.

    >>> regrouped(View(0, (1, 8, 8, 3), (0, 2, 3, 1)), (1, 3, 64))
    ((1, 64, 3), (0, 2, 1))
    """
    groups = _groups(view.shape, shape)
    start = [min(map(view.place, old), default=-1) for old, _ in groups]
    for (old, _), first in zip(groups, start, strict=True):
        solid = [p for p in range(max(first, 0), len(view.lies)) if view.lies[p] > 1]
        if list(map(view.place, old)) != solid[: len(old)]:
            return None
    along = sorted(range(len(groups)), key=start.__getitem__)
    order = tuple(axis for index in along for axis in groups[index][1])
    return tuple(shape[axis] for axis in order), order


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest groups of old and new axes with equal products; old axes of length 1 are in none."""
    groups: list[tuple[list[int], list[int]]] = [([], [])]
    left = [axis for axis, length in enumerate(old) if length != 1]
    have = want = 1
    for axis, length in enumerate(new):
        if have == want and length != 1:
            groups.append(([], []))
        groups[-1][1].append(axis)
        want *= length
        while have < want:
            groups[-1][0].append(left[0])
            have *= old[left.pop(0)]
    return groups
