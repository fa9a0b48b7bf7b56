"""Softmax attention by positive random features, linear in the number of tokens (FAVOR+)."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, QKV, projected
from .spec import Mixer, Number, Rule


def attention(place: Place) -> list[Op]:
    """Features of queries and keys, keys times values, queries times both."""
    block, rows = place.block, place.prefix + place.tokens
    heads, dim, features = block.num_heads, block.head_dim, block.num_features
    between = [
        *([ops.matmul(heads, features, dim, rows), ops.elementwise(heads * features * rows)] * 2),
        ops.elementwise(heads * rows * dim),
        ops.matmul(heads, features, rows, dim),
        ops.matmul(heads, rows, features, dim),
        ops.matmul(heads, rows, features, 1),
        ops.elementwise(heads * rows * dim, 2),
    ]
    return projected(place, rows, rows, heads, between)


NUM_FEATURES = Number("num_features", 64)  # random ones, of queries and keys
FEATURES_GIVEN = Rule(
    ("num_features",),
    lambda features: features > 0,
    "mixer {mixer!r} needs num_features above 0",
)

SPEC = Mixer(
    module=".performer:Performer",
    ops=attention,
    example=Block("performer", num_heads=3, head_dim=64, num_features=64),
    numbers=(*HEADS, NUM_FEATURES),
    rules=(HEADS_GIVEN, FEATURES_GIVEN),
    attribute="attn",
    needs_grid=False,
    takes_prefix=True,
    readers=QKV,
    last="proj",
    # Graphs hold the projection for queries and for keys.
    constants=lambda place: 2 * place.block.num_features * place.block.head_dim,
)
