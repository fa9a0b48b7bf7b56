"""A depthwise convolution with batch norm, which is the stream: TinyViT's before its MLP."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BRANCHES_DIFFER, KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Mixer


def convolution(place: Place) -> list[Op]:
    """One convolution."""
    return [
        ops.depthwise(place.tokens, place.width, place.block.kernel_size, bias=False),
        ops.norm("batch", place.tokens, place.width),
    ]


SPEC = Mixer(
    module=".depthwise:DepthwiseConv",
    ops=convolution,
    example=Block("depthwise", kernel_size=3),
    numbers=(KERNEL_SIZE,),
    rules=(KERNEL_IS_ODD, BRANCHES_DIFFER),
    layout="grid",
    pre_norm=False,
    reparam=True,
    residual=False,
    compresses=False,
    batch_norms={"bn": "conv"},
)
