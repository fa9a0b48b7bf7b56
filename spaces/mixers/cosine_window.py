"""Window attention by angles, with a bias that an MLP makes of relative positions (SwinV2)."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BIAS_TAKES_NORM, HEADS, HEADS_GIVEN, NO_BIAS, QKV, products, projected
from .spec import Mixer
from .window import SHIFT, WINDOW_FITS, WINDOW_SIZE, coordinates, flags, padded, shift_of, side_of

POSITION_HIDDEN = 512  # units of the MLP of positions


def attention(place: Place) -> list[Op]:
    """Every token sees those of its window; queries and keys have length 1."""
    side, (rows, columns) = side_of(place), padded(place)
    heads, positions, seen = place.block.num_heads, rows * columns, side * side
    elements = positions * heads * place.block.head_dim
    between = products(place.block, positions, seen)
    between[1:1] = [ops.elementwise(heads * positions * seen, 2)]
    span, units = (2 * side - 1) ** 2, POSITION_HIDDEN
    biases = Op(
        "constant",
        macs=span * (2 * units + units * heads),
        weights=2 * units + units * heads,
        others=units + heads,  # bias of the first layer, and a scale a head
        writes=heads * (seen * seen + 1),  # biases of all pairs, and the scale
    )
    between = [biases, ops.elementwise(2 * elements, 2), *between]
    return projected(place, positions, positions, heads, between)


SPEC = Mixer(
    module=".cosine_window:CosineWindowAttention",
    ops=attention,
    example=Block("cosine_window", num_heads=3, head_dim=64, window_size=7),
    numbers=(*HEADS, WINDOW_SIZE, SHIFT, NO_BIAS),
    rules=(HEADS_GIVEN, WINDOW_FITS, BIAS_TAKES_NORM),
    attribute="attn",
    readers=QKV,
    last="proj",
    coordinates=coordinates,
    flags=flags,
    pads=lambda place: padded(place) != place.grid,
    constants=lambda place: (
        padded(place)[0] * padded(place)[1] * side_of(place) ** 2 if shift_of(place) else 0
    ),
)
