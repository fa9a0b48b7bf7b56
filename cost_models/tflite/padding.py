"""Padding: zeros around an image, by TFLite's own rule where it gives the same."""

from __future__ import annotations

from collections.abc import Sequence

from .conversion import Conversion
from .view import View

SAME, VALID = 0, 1  # LiteRT's Padding


def padded(
    c: Conversion, view: View, spans: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> tuple[int, int]:
    """An image with what surrounds it, and how TFLite is to pad it further."""
    if not any(pads):
        return view.tensor, VALID
    if is_same(view, spans, strides, pads):
        return view.tensor, SAME
    return with_zeros(c, view, pads), VALID


def with_zeros(c: Conversion, view: View, pads: Sequence[int]) -> int:
    """An image with zeros around it: above, left, below and right."""
    top, left, bottom, right = pads
    around = [(0, 0), (top, bottom), (left, right), (0, 0)]
    lies = tuple(n + sum(edges) for n, edges in zip(view.lies, around, strict=True))
    return c.made("PAD", [view.tensor, c.whole(around)], lies, ("Pad", {}))


def is_same(view: View, spans: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> bool:
    """Whether TFLite's "same" padding is this one."""
    for axis in (0, 1):
        length, stride = view.lies[1 + axis], strides[axis]
        total = max((-(-length // stride) - 1) * stride + spans[axis] - length, 0)
        if (pads[axis], pads[2 + axis]) != (total // 2, total - total // 2):
            return False
    return True
