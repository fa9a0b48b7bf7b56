"""Softmax attention of windows to their own tokens, and to coarser and coarser squares around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, QKV, products, projected
from .spec import Mixer, Number, Rule
from .window import WINDOW_FITS, WINDOW_SIZE, bias, bias_constants, padded, side_of
from .window import coordinates as of_windows


def levels(place: Place) -> list[tuple[int, int]]:
    """Side of the grid of squares of each coarse level, and of the part that a window sees."""
    grids = [-(-place.grid[0] // (1 << n)) for n in range(1, place.block.focal_levels)]
    return [(grid, min(side_of(place), grid)) for grid in grids]


def attention(place: Place) -> list[Op]:
    """Every token sees its window, and the squares of each level that are nearest to it."""
    block, coarse, seen = place.block, levels(place), seen_by(place)
    rows, columns = padded(place)
    positions, squares = rows * columns, sum(grid * grid for grid, _ in coarse)
    gathered = positions // side_of(place) ** 2 * seen * block.num_heads * block.head_dim
    between = products(block, positions, seen)
    between[1:1] = bias(place, seen)
    between[:0] = [ops.elementwise(2 * gathered)] * bool(coarse)
    pools = [ops.pool(place.tokens * place.width, grid * grid * place.width) for grid, _ in coarse]
    return [*pools, *projected(place, positions, positions + squares, block.num_heads, between)]


def seen_by(place: Place) -> int:
    """Keys of each query: the tokens of its window, and squares."""
    return side_of(place) ** 2 + sum(part * part for _, part in levels(place))


def coordinates(place: Place) -> Mapping[str, Any]:
    """Side of the window as used, and how many levels there are."""
    return {**of_windows(place), "focal_levels": place.block.focal_levels}


FOCAL_LEVELS = Number("focal_levels", 2)  # 1: the window alone
LEVELS_FIT = Rule(
    ("focal_levels", "grid"),
    lambda levels, grid: 1 <= levels <= 16 and 1 << levels - 1 <= grid,
    "focal_levels {focal_levels} must be at least 1, and squares, twice as wide with each level "
    "after the first, no larger than the token grid of {grid}x{grid}",
)

SPEC = Mixer(
    module=".focal:FocalAttention",
    ops=attention,
    example=Block("focal", num_heads=3, head_dim=64, window_size=7, focal_levels=2),
    numbers=(*HEADS, WINDOW_SIZE, FOCAL_LEVELS),
    rules=(HEADS_GIVEN, WINDOW_FITS, LEVELS_FIT),
    attribute="attn",
    relative=True,
    readers=QKV,
    last="proj",
    coordinates=coordinates,
    pads=lambda place: padded(place) != place.grid,
    constants=lambda place: bias_constants(place, seen_by(place)),
)
