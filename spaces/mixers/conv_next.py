"""A large depthwise convolution, layer norm and MLP in one branch, as in ConvNeXt."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BRANCHES_DIFFER, KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Mixer


def layers(place: Place) -> list[Op]:
    """A depthwise convolution, and two linear layers."""
    hidden = place.block.mlp_hidden
    return [
        ops.depthwise(place.tokens, place.width, place.block.kernel_size),
        ops.norm("layer", place.tokens, place.width),
        ops.linear(place.tokens, place.width, hidden),
        ops.elementwise(place.tokens * hidden),
        ops.linear(place.tokens, hidden, place.width),
    ]


SPEC = Mixer(
    module=".conv_next:ConvNext",
    ops=layers,
    example=Block("conv_next", mlp_hidden=256, kernel_size=7),
    numbers=(KERNEL_SIZE,),
    rules=(KERNEL_IS_ODD, BRANCHES_DIFFER),
    layout="grid",
    pre_norm=False,
    reparam=True,
    is_mlp=True,
    last="fc2",
    act_elements=lambda place: place.tokens * place.block.mlp_hidden,
)
