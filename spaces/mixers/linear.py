"""ReLU linear attention: keys times values first, so that cost grows with tokens only."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, KERNEL_IS_ODD, KERNEL_SIZE, QKV
from .spec import Mixer


def attention(place: Place) -> list[Op]:
    """Two products a head, a division, and a depthwise convolution on the values."""
    block, rows = place.block, place.prefix + place.tokens
    inner = block.num_heads * block.head_dim
    return [
        *(ops.linear(rows, place.width, inner) for _ in QKV),
        ops.elementwise(2 * rows * inner),
        ops.matmul(block.num_heads, block.head_dim, rows, block.head_dim),
        ops.matmul(block.num_heads, rows, block.head_dim, block.head_dim),
        ops.matmul(block.num_heads, rows, block.head_dim, 1),
        ops.elementwise(rows * inner, 2),
        ops.depthwise(place.tokens, inner, block.kernel_size),
        ops.elementwise(rows * inner, 2),
        ops.linear(rows, inner, place.width),
    ]


SPEC = Mixer(
    module=".linear:LinearAttention",
    ops=attention,
    example=Block("linear", num_heads=3, head_dim=64, kernel_size=3),
    numbers=(*HEADS, KERNEL_SIZE),
    rules=(HEADS_GIVEN, KERNEL_IS_ODD),
    attribute="attn",
    takes_prefix=True,
    readers=QKV,
    last="proj",
)
