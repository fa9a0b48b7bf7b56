"""A dense convolution that expands, and a projection, each with batch norm (EfficientNetV2)."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BRANCHES_DIFFER, KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Mixer


def convolutions(place: Place) -> list[Op]:
    """A dense one, then one of 1x1."""
    hidden = place.block.mlp_hidden
    return [
        ops.conv(place.tokens, place.width, hidden, place.block.kernel_size, bias=False),
        ops.norm("batch", place.tokens, hidden),
        ops.elementwise(place.tokens * hidden),
        ops.conv(place.tokens, hidden, place.width, 1, bias=False),
        ops.norm("batch", place.tokens, place.width),
    ]


SPEC = Mixer(
    module=".fused_mbconv:FusedMBConv",
    ops=convolutions,
    example=Block("fused_mbconv", mlp_hidden=256, kernel_size=3),
    numbers=(KERNEL_SIZE,),
    rules=(KERNEL_IS_ODD, BRANCHES_DIFFER),
    layout="grid",
    pre_norm=False,
    reparam=True,
    is_mlp=True,
    last="conv_pwl",
    batch_norms={"bn1": "conv_exp", "bn2": "conv_pwl"},
    act_elements=lambda place: place.tokens * place.block.mlp_hidden,
)
