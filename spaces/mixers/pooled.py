"""Softmax attention whose keys and values are averaged over squares of the grid."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BIAS_TAKES_NORM, HEADS, HEADS_GIVEN, QKV, SETTINGS, softmax_attention
from .spec import Mixer, Number, Rule


def attention(place: Place) -> list[Op]:
    """Every token sees the class tokens and one token a square."""
    rows, side = place.prefix + place.tokens, place.block.kv_pool
    height, width = place.grid
    keys = place.prefix + -(-height // side) * -(-width // side)
    operations = softmax_attention(place, rows, keys, keys, place.block.num_heads)
    if side > 1:
        operations.insert(0, ops.pool(rows * place.width, keys * place.width))
    return operations


KV_POOL = Number("kv_pool", 2, inverse=True)  # side of a square
POOL_FITS = Rule(
    ("kv_pool", "grid"),
    lambda pool, grid: 1 <= pool <= grid,
    "kv_pool {kv_pool} is larger than the token grid of {grid}x{grid}",
)

SPEC = Mixer(
    module=".pooled:PooledAttention",
    ops=attention,
    example=Block("pooled", num_heads=3, head_dim=64, kv_pool=2),
    numbers=(*HEADS, KV_POOL, *SETTINGS),
    rules=(HEADS_GIVEN, POOL_FITS, BIAS_TAKES_NORM),
    attribute="attn",
    takes_prefix=True,
    readers=QKV,
    last="proj",
)
