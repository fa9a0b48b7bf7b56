"""Softmax attention of windows to what is in them and around them."""

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


def reach_of(place: Place) -> int:
    """Side of the square that a window sees."""
    return side_of(place) + 2 * place.block.halo


def attention(place: Place) -> list[Op]:
    """Every token sees its window and its halo."""
    block, seen = place.block, reach_of(place) ** 2
    rows, columns = padded(place)
    gathered = rows * columns // side_of(place) ** 2 * seen * block.num_heads * block.head_dim
    between = [ops.elementwise(2 * gathered), *products(block, rows * columns, seen)]
    between[2:2] = bias(place, seen, block.halo)
    return projected(place, rows * columns, rows * columns, block.num_heads, between)


def coordinates(place: Place) -> Mapping[str, Any]:
    """Side of the window as used, and of what it sees."""
    return {**of_windows(place), "reach": reach_of(place)}


HALO = Number("halo", 1)  # tokens around a window that it sees, too
HALO_FITS = Rule(
    ("halo", "grid"),
    lambda halo, grid: 0 <= halo <= grid,
    "halo {halo} is larger than the token grid of {grid}x{grid}",
)

SPEC = Mixer(
    module=".halo:HaloAttention",
    ops=attention,
    example=Block("halo", num_heads=3, head_dim=64, window_size=7, halo=2),
    numbers=(*HEADS, WINDOW_SIZE, HALO),
    rules=(HEADS_GIVEN, WINDOW_FITS, HALO_FITS),
    attribute="attn",
    relative=True,
    readers=QKV,
    last="proj",
    coordinates=coordinates,
    pads=lambda place: padded(place) != place.grid,
    constants=lambda place: bias_constants(place, reach_of(place) ** 2, place.block.halo),
)
