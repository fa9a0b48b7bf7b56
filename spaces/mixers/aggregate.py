"""Window attention, and global tokens that collect from all windows and give back to them."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, QKV, products, projected
from .spec import Mixer, Number, Rule
from .window import WINDOW_FITS, WINDOW_SIZE, bias, bias_constants, coordinates, padded, side_of


def attention(place: Place) -> list[Op]:
    """Attention inside windows, and three times with the global tokens."""
    block, side = place.block, side_of(place)
    rows, columns = padded(place)
    positions, inner, some = rows * columns, block.num_heads * block.head_dim, block.global_tokens
    between = products(block, positions, side * side)
    between[1:1] = bias(place, side * side)
    between += [
        Op("elementwise", others=some * inner, reads=some * inner, writes=some * inner),
        *products(block, some, positions),  # collect
        *products(block, some, some),  # exchange
        ops.elementwise(some * inner, 2),
        ops.linear(some, inner, inner),
        ops.linear(some, inner, inner),
        *products(block, positions, some),  # broadcast
        ops.elementwise(positions * inner, 2),
    ]
    return projected(place, positions, positions, block.num_heads, between)


GLOBAL_TOKENS = Number("global_tokens", 8)  # learned ones, of every block its own
TOKENS_GIVEN = Rule(
    ("global_tokens",),
    lambda some: some > 0,
    "mixer {mixer!r} needs global_tokens above 0; without them it is 'window'",
)

SPEC = Mixer(
    module=".aggregate:AggregatedAttention",
    ops=attention,
    example=Block("aggregate", num_heads=3, head_dim=64, window_size=7, global_tokens=8),
    numbers=(*HEADS, WINDOW_SIZE, GLOBAL_TOKENS),
    rules=(HEADS_GIVEN, WINDOW_FITS, TOKENS_GIVEN),
    attribute="attn",
    relative=True,
    readers=QKV,
    last="proj",
    coordinates=coordinates,
    pads=lambda place: padded(place) != place.grid,
    constants=lambda place: bias_constants(place, side_of(place) ** 2),
)
