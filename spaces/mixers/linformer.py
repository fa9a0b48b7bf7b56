"""Softmax attention to a fixed number of learned mixtures of all keys and values."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BIAS_TAKES_NORM, HEADS, HEADS_GIVEN, QKV, SETTINGS, products, projected
from .spec import Mixer, Number, Rule


def attention(place: Place) -> list[Op]:
    """Every token sees the class tokens and the mixtures."""
    block, rows = place.block, place.prefix + place.tokens
    inner, keys = block.num_heads * block.head_dim, place.prefix + block.kv_tokens
    mixing = ops.linear(2 * inner, place.tokens, block.kv_tokens, bias=False)
    between = [mixing, *products(block, rows, keys)]
    return projected(place, rows, rows, block.num_heads, between)


KV_TOKENS = Number("kv_tokens", 16)  # mixtures of keys and values
MIXTURES_FIT = Rule(
    ("kv_tokens", "grid"),
    lambda mixtures, grid: 1 <= mixtures <= grid * grid,
    "kv_tokens {kv_tokens} must be at least 1, and at most the tokens of the {grid}x{grid} grid",
)

SPEC = Mixer(
    module=".linformer:Linformer",
    ops=attention,
    example=Block("linformer", num_heads=3, head_dim=64, kv_tokens=49),
    numbers=(*HEADS, KV_TOKENS, *SETTINGS),
    rules=(HEADS_GIVEN, MIXTURES_FIT, BIAS_TAKES_NORM),
    attribute="attn",
    takes_prefix=True,
    fixed_tokens=True,
    readers=QKV,
    last="proj",
)
