"""ReLU linear attention at two scales, by convolutions on queries, keys and values together."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Mixer


def attention(place: Place) -> list[Op]:
    """Twice as many heads as there are: each once more on neighborhoods."""
    block, tokens = place.block, place.tokens
    heads, dim = block.num_heads, block.head_dim
    inner = heads * dim
    return [
        ops.conv(tokens, place.width, 3 * inner, 1, bias=False),
        ops.depthwise(tokens, 3 * inner, block.kernel_size, bias=False),
        # A dense convolution within each head, of which queries, keys and values have one each.
        ops.depthwise(tokens, 3 * inner, 1, bias=False)._replace(
            macs=tokens * 3 * inner * dim, weights=3 * inner * dim
        ),
        ops.elementwise(2 * 2 * tokens * inner),
        ops.matmul(2 * heads, dim, tokens, dim),
        ops.matmul(2 * heads, dim, dim, tokens),
        ops.matmul(2 * heads, 1, dim, tokens),
        ops.elementwise(2 * tokens * inner, 2),
        ops.conv(tokens, 2 * inner, place.width, 1, bias=False),
        ops.norm("batch", tokens, place.width),
    ]


SPEC = Mixer(
    module=".multiscale_linear:MultiscaleLinearAttention",
    ops=attention,
    example=Block("multiscale_linear", num_heads=4, head_dim=16, kernel_size=5),
    numbers=(*HEADS, KERNEL_SIZE),
    rules=(HEADS_GIVEN, KERNEL_IS_ODD),
    layout="grid",
    pre_norm=False,
    last="proj",
    batch_norms={"bn": "proj"},
)
