"""Softmax attention inside (shifted) windows, with a bias by relative position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, QKV, VALUE_DIM, products, projected
from .spec import Mixer, Number, Rule


def side_of(place: Place) -> int:
    """Side of a window, at most that of the grid."""
    return min(place.block.window_size, *place.grid)


def shift_of(place: Place) -> int:
    """Tokens by which windows are shifted; 0 where one window covers the grid."""
    side = side_of(place)
    return side // 2 if place.block.shift and side < max(place.grid) else 0


def padded(place: Place) -> tuple[int, ...]:
    """Rows and columns of the grid, filled up to whole windows."""
    side = side_of(place)
    return tuple(-(-length // side) * side for length in place.grid)


def attention(place: Place) -> list[Op]:
    """Every token sees those of its window."""
    side, (rows, columns) = side_of(place), padded(place)
    between = products(place.block, rows * columns, side * side)
    between[1:1] = bias(place, side * side)
    return projected(place, rows * columns, rows * columns, place.block.num_heads, between)


def bias(place: Place, seen: int, halo: int = 0) -> list[Op]:
    """Addition of a bias by relative position, where there is one.

    Args:
        place: of windows.
        seen: keys of each query.
        halo: tokens around a window for which there are biases, too.
    """
    if not place.relative:
        return []
    (rows, columns), heads = padded(place), place.block.num_heads
    table = biases_of(place, halo) * heads
    return [ops.elementwise(heads * rows * columns * seen, 2, others=table)]


def biases_of(place: Place, halo: int = 0) -> int:
    """Learned biases of a head: one for each relative position, or for each up to its sign."""
    side = side_of(place) + halo
    return (side if place.block.symmetric else 2 * side - 1) ** 2


def bias_constants(place: Place, seen: int, halo: int = 0) -> Any:
    """Biases gathered from their tables, beyond these; arguments as of `bias`."""
    pairs = side_of(place) ** 2 * seen - biases_of(place, halo)
    return place.block.num_heads * pairs if place.relative else 0


def coordinates(place: Place) -> Mapping[str, Any]:
    """Side of the window as used, instead of as asked for."""
    block = place.block
    heads = {"num_heads": block.num_heads, "head_dim": block.head_dim}
    return heads | {"value_dim": block.value_dim, "window": side_of(place)}


def flags(place: Place) -> tuple[str, ...]:
    """Whether windows are shifted."""
    return ("shift",) if shift_of(place) else ()


def constants(place: Place) -> Any:
    """Masks of shifted windows, and biases gathered from their tables."""
    side, (rows, columns) = side_of(place), padded(place)
    pairs = rows * columns * side**2 if shift_of(place) else 0
    return pairs + bias_constants(place, side**2)


WINDOW_SIZE = Number("window_size", 7)  # side of a window, in tokens
# Every second block's windows are shifted by half a window, as in Swin.
SHIFT = Number("shift", True, build=lambda shift, given: shift and given.odd, fixed=True)
# A bias for how far rows and columns are apart, in either direction, as in LeViT and TinyViT.
SYMMETRIC = Number("symmetric", False, fixed=True)
WINDOW_FITS = Rule(
    ("window_size", "grid"),
    lambda window, grid: 1 <= window <= grid,
    "window_size {window_size} is larger than the token grid of {grid}x{grid}",
)

SPEC = Mixer(
    module=".window:WindowAttention",
    ops=attention,
    example=Block("window", num_heads=3, head_dim=64, window_size=7),
    numbers=(*HEADS, VALUE_DIM, WINDOW_SIZE, SHIFT, SYMMETRIC),
    rules=(HEADS_GIVEN, WINDOW_FITS),
    attribute="attn",
    relative=True,
    readers=QKV,
    last="proj",
    coordinates=coordinates,
    flags=flags,
    pads=lambda place: padded(place) != place.grid,
    constants=constants,
)
