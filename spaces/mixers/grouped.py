"""Softmax attention with fewer heads for keys and values, which several heads of queries share."""

from __future__ import annotations

from ..block import Block, Place
from ..ops import Op
from .common import (
    BIAS_TAKES_NORM,
    HEADS,
    HEADS_GIVEN,
    KV_HEADS,
    QKV,
    ROPE_FITS,
    ROPE_KEEPS,
    ROPE_MIXES,
    ROTARY,
    SETTINGS,
    softmax_attention,
    turned,
)
from .spec import Mixer, Rule


def attention(place: Place) -> list[Op]:
    """Every token sees all tokens."""
    rows = place.prefix + place.tokens
    return softmax_attention(place, rows, rows, rows, place.block.kv_heads)


def nodes(place: Place) -> tuple[str, ...]:
    """Keys and values are repeated unless each head of queries has its own."""
    return ("repeated",) if place.block.kv_heads < place.block.num_heads else ()


KV_HEADS_DIVIDE = Rule(
    ("num_heads", "kv_heads"),
    lambda heads, kv: kv > 0 and heads % kv == 0,
    "kv_heads {kv_heads} must divide num_heads {num_heads}",
)

SPEC = Mixer(
    module=".attention:Attention",
    ops=attention,
    example=Block("grouped", num_heads=3, head_dim=64, kv_heads=1),
    numbers=(*HEADS, KV_HEADS, *SETTINGS, *ROTARY),
    rules=(HEADS_GIVEN, KV_HEADS_DIVIDE, BIAS_TAKES_NORM, ROPE_FITS, ROPE_KEEPS, ROPE_MIXES),
    attribute="attn",
    needs_grid=False,
    takes_prefix=True,
    ranks_tokens=True,
    readers=QKV,
    last="proj",
    nodes=nodes,
    has_positions=lambda block: bool(block.rope),
    constants=turned,
)
