"""A depthwise convolution and one of 1x1, each with batch norm (MobileNet)."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BRANCHES_DIFFER, KERNEL_IS_ODD, KERNEL_SIZE
from .mbconv import activated
from .spec import Mixer


def convolutions(place: Place) -> list[Op]:
    """One on each channel, then one on all of a token."""
    tokens, width = place.tokens, place.width
    return [
        ops.depthwise(tokens, width, place.block.kernel_size, bias=False),
        *activated(tokens, width),
        ops.conv(tokens, width, width, 1, bias=False),
        ops.norm("batch", tokens, width),
    ]


SPEC = Mixer(
    module=".separable:SeparableConv",
    ops=convolutions,
    example=Block("separable", kernel_size=3),
    numbers=(KERNEL_SIZE,),
    rules=(KERNEL_IS_ODD, BRANCHES_DIFFER),
    layout="grid",
    pre_norm=False,
    reparam=True,
    last="conv_pw",
    batch_norms={"bn1": "conv_dw", "bn2": "conv_pw"},
    act_elements=lambda place: place.tokens * place.width,
)
