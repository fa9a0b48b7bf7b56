"""Softmax attention among tokens that have the same place in their square of the grid."""

from __future__ import annotations

from ..block import Block, Place
from ..ops import Op
from .common import BIAS_TAKES_NORM, HEADS, HEADS_GIVEN, QKV, SETTINGS, softmax_attention
from .spec import Mixer, Number, Rule


def attention(place: Place) -> list[Op]:
    """Every token sees one token of each square."""
    keys = place.tokens // place.block.unfold_size**2
    return softmax_attention(place, place.tokens, place.tokens, keys, place.block.num_heads)


UNFOLD_SIZE = Number("unfold_size", 2)  # side of a square
SQUARES_FIT = Rule(
    ("unfold_size", "grid"),
    lambda size, grid: size > 0 and grid % size == 0,
    "unfold_size {unfold_size} must divide the token grid of {grid}x{grid}",
)

SPEC = Mixer(
    module=".unfold:UnfoldedAttention",
    ops=attention,
    example=Block("unfold", num_heads=3, head_dim=64, unfold_size=2),
    numbers=(*HEADS, UNFOLD_SIZE, *SETTINGS),
    rules=(HEADS_GIVEN, SQUARES_FIT, BIAS_TAKES_NORM),
    attribute="attn",
    readers=QKV,
    last="proj",
)
