"""Softmax attention whose heads are mixed, beside a convolution of its values (EfficientFormerV2).

It may see a grid of half the side, from which it is enlarged again.
"""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, VALUE_DIM, values_of
from .spec import Mixer, Number, Rule

LOCAL = 3  # side of its depthwise convolutions
# Where it leads from one grid to the next.
HALVING = Block("talking_heads", num_heads=8, head_dim=16, value_dim=64, attn_stride=1)


def attention(place: Place) -> list[Op]:
    """Every token of a grid, or of a coarser one, sees all of its tokens."""
    block, width, stride = place.block, place.width, place.block.attn_stride
    tokens, heads = place.tokens // stride**2, block.num_heads
    value, pairs = heads * values_of(block), heads * tokens**2
    coarser = [
        _depthwise(tokens, width, stride),
        ops.norm("batch", tokens, width),
    ]
    enlarged = [ops.elementwise(2 * tokens * value, 2), ops.elementwise(4 * tokens * value, 2)]
    return [
        *(coarser if stride > 1 else []),
        *_normed(tokens, width, heads * block.head_dim),
        *_seen(block, tokens, tokens, width),
        *_scored(block, tokens, tokens),
        ops.conv(tokens**2, heads, heads, 1),
        ops.softmax(pairs),
        ops.conv(tokens**2, heads, heads, 1),
        *_gathered(block, tokens, tokens),
        *(enlarged if stride > 1 else []),
        ops.elementwise(place.tokens * value),
        *_normed(place.tokens, value, width),
    ]


def halving(tokens: int, inputs: int, outputs: int) -> list[Op]:
    """Attention by which a grid is halved.

    Args:
        tokens: that it gives.
        inputs: channels of the tokens that it sees.
        outputs: channels that it gives.
    """
    block, seen = HALVING, 4 * tokens
    value = block.num_heads * values_of(block)
    return [
        _depthwise(tokens, inputs, 2),
        *_normed(tokens, inputs, block.num_heads * block.head_dim),
        *_seen(block, tokens, seen, inputs),
        *_scored(block, tokens, seen),
        ops.softmax(block.num_heads * tokens * seen),
        *_gathered(block, tokens, seen),
        ops.elementwise(tokens * value),
        *_normed(tokens, value, outputs),
    ]


def _seen(block: Block, tokens: int, seen: int, width: int) -> list[Op]:
    """Keys and values of the tokens that are seen, and a convolution of these."""
    key, value = block.num_heads * block.head_dim, block.num_heads * values_of(block)
    return [
        *_normed(seen, width, key),
        *_normed(seen, width, value),
        ops.depthwise(tokens, value, LOCAL, bias=False)._replace(reads=seen * value),
        ops.norm("batch", tokens, value),
    ]


def _scored(block: Block, tokens: int, seen: int) -> list[Op]:
    """Scores with a bias for each distance, which an exported graph holds for each pair."""
    heads, pairs = block.num_heads, block.num_heads * tokens * seen
    return [
        ops.matmul(heads, tokens, block.head_dim, seen),
        Op("constant", others=heads * seen, writes=pairs),
        ops.elementwise(pairs, 2),
    ]


def _gathered(block: Block, tokens: int, seen: int) -> list[Op]:
    """Sums of values, and what their convolution gives."""
    return [
        ops.matmul(block.num_heads, tokens, seen, values_of(block)),
        ops.elementwise(tokens * block.num_heads * values_of(block), 2),
    ]


def _normed(rows: int, inputs: int, outputs: int) -> list[Op]:
    return [ops.conv(rows, inputs, outputs, 1, bias=False), ops.norm("batch", rows, outputs)]


def _depthwise(tokens: int, channels: int, stride: int) -> Op:
    reads = stride**2 * tokens * channels
    return ops.depthwise(tokens, channels, LOCAL, bias=False)._replace(reads=reads)


# Rows and columns of the grid for one of that which is seen.
ATTN_STRIDE = Number("attn_stride", 1, low=1, options=(1, 2))
STRIDE_FITS = Rule(
    ("attn_stride", "grid"),
    lambda stride, grid: stride in (1, 2) and grid % stride == 0,
    "attn_stride {attn_stride} must be 1 or 2 and divide the token grid of {grid}x{grid}",
)

SPEC = Mixer(
    module=".talking_heads:TalkingHeads",
    ops=attention,
    example=Block("talking_heads", num_heads=4, head_dim=16, value_dim=64, attn_stride=2),
    numbers=(*HEADS, VALUE_DIM, ATTN_STRIDE),
    rules=(HEADS_GIVEN, STRIDE_FITS),
    layout="grid",
    pre_norm=False,
    last="proj",
    batch_norms={"bn": "proj"},
    act_elements=lambda place: place.tokens * place.block.num_heads * values_of(place.block),
)
