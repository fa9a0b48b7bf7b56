"""Softmax attention to a band of neighbors in reading order, and to the class tokens."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BIAS_TAKES_NORM, HEADS, HEADS_GIVEN, QKV, SETTINGS, products, projected
from .spec import Mixer, Number, Rule


def chunk_of(place: Place) -> int:
    """Tokens that are looked at together: as many as the band is wide on one side."""
    return min(place.block.band, place.grid[0] * place.grid[1])


def chunks_of(place: Place) -> int:
    """Number of chunks; the last one may be filled up."""
    return -(-(place.grid[0] * place.grid[1]) // chunk_of(place))


def reach_of(place: Place) -> int:
    """Tokens around each chunk that some of it see, itself among them."""
    return min(3 * chunk_of(place), place.grid[0] * place.grid[1])


def attention(place: Place) -> list[Op]:
    """Patches see a stretch of patches and the class tokens; these see everything."""
    block, rows = place.block, place.prefix + place.tokens
    seen, inner = place.prefix + reach_of(place), block.num_heads * block.head_dim
    between = [
        ops.elementwise(2 * chunks_of(place) * seen * inner),
        *products(block, chunks_of(place) * chunk_of(place), seen),
    ]
    if place.prefix:
        between += products(block, place.prefix, rows)
    return projected(place, rows, rows, block.num_heads, between)


def constants(place: Place) -> int:
    """Masks."""
    return chunks_of(place) * chunk_of(place) * (place.prefix + reach_of(place))


BAND = Number("band", 16)  # tokens to either side, in reading order
BAND_FITS = Rule(
    ("band", "grid"),
    lambda band, grid: 1 <= band < grid * grid,
    "band {band} must be at least 1, and less than the tokens of the {grid}x{grid} grid",
)

SPEC = Mixer(
    module=".banded:BandedAttention",
    ops=attention,
    example=Block("banded", num_heads=3, head_dim=64, band=28),
    numbers=(*HEADS, BAND, *SETTINGS),
    rules=(HEADS_GIVEN, BAND_FITS, BIAS_TAKES_NORM),
    attribute="attn",
    takes_prefix=True,
    readers=QKV,
    last="proj",
    constants=constants,
)
