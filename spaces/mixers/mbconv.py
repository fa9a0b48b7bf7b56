"""Expansion, depthwise convolution, projection, each with batch norm (MobileNetV2)."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Mixer


def convolutions(place: Place) -> list[Op]:
    """Two of 1x1 around a depthwise one."""
    hidden, kernel = place.block.mlp_hidden, place.block.kernel_size
    return [
        ops.conv(place.tokens, place.width, hidden, 1, bias=False),
        ops.norm("batch", place.tokens, hidden),
        ops.elementwise(place.tokens * hidden),
        ops.depthwise(place.tokens, hidden, kernel, bias=False),
        ops.norm("batch", place.tokens, hidden),
        ops.elementwise(place.tokens * hidden),
        ops.conv(place.tokens, hidden, place.width, 1, bias=False),
        ops.norm("batch", place.tokens, place.width),
    ]


SPEC = Mixer(
    module=".mbconv:MBConv",
    ops=convolutions,
    example=Block("mbconv", mlp_hidden=256, kernel_size=3),
    numbers=(KERNEL_SIZE,),
    rules=(KERNEL_IS_ODD,),
    layout="grid",
    pre_norm=False,
    is_mlp=True,
    last="conv_pwl",
    batch_norms={"bn1": "conv_pw", "bn2": "conv_dw", "bn3": "conv_pwl"},
    act_elements=lambda place: 2 * place.tokens * place.block.mlp_hidden,
)
