"""Softmax attention with fewer heads for keys and values, which several heads of queries share."""

from __future__ import annotations

from dataclasses import replace

from ..block import Block, Place
from ..ops import Op
from .common import HEADS, KV_HEADS, ROTARY, SETTINGS, softmax_attention
from .softmax import SPEC as SOFTMAX
from .spec import Rule


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

SPEC = replace(
    SOFTMAX,
    ops=attention,
    example=Block("grouped", num_heads=3, head_dim=64, kv_heads=1),
    numbers=(*HEADS, KV_HEADS, *SETTINGS, *ROTARY),
    rules=(*SOFTMAX.rules, KV_HEADS_DIVIDE),
    nodes=nodes,
)
