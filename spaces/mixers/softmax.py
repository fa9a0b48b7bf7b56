"""Softmax attention over all tokens."""

from __future__ import annotations

from ..block import Block, Place
from ..ops import Op
from .common import (
    BIAS_TAKES_NORM,
    HEADS,
    HEADS_GIVEN,
    QKV,
    ROPE_FITS,
    ROPE_KEEPS,
    ROPE_MIXES,
    ROTARY,
    SETTINGS,
    softmax_attention,
    turned,
)
from .spec import Mixer


def attention(place: Place) -> list[Op]:
    """Every token sees all tokens."""
    rows = place.prefix + place.tokens
    return softmax_attention(place, rows, rows, rows, place.block.num_heads)


SPEC = Mixer(
    module=".attention:Attention",
    ops=attention,
    example=Block("softmax", num_heads=3, head_dim=64),
    numbers=(*HEADS, *SETTINGS, *ROTARY),
    rules=(HEADS_GIVEN, BIAS_TAKES_NORM, ROPE_FITS, ROPE_KEEPS, ROPE_MIXES),
    attribute="attn",  # timm's name, for everything that projects queries, keys and values
    needs_grid=False,
    takes_prefix=True,
    ranks_tokens=True,
    readers=QKV,
    last="proj",
    has_positions=lambda block: bool(block.rope),
    constants=turned,
)
