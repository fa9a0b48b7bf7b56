"""Expansion, depthwise convolution, projection, each with batch norm (MobileNetV2 and V3)."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import BRANCHES_DIFFER, KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Given, Mixer, Number, squeezed


def convolutions(place: Place, biased: bool = False) -> list[Op]:
    """Two of 1x1 around a depthwise one, whose channels may be weighed by what they hold.

    Args:
        place: of the block.
        biased: whether the first two have biases instead of batch norms.
    """
    hidden = place.block.mlp_hidden
    return [
        ops.conv(place.tokens, place.width, hidden, 1, bias=biased),
        *activated(place.tokens, hidden, biased),
        ops.depthwise(place.tokens, hidden, place.block.kernel_size, bias=biased),
        *activated(place.tokens, hidden, biased),
        *excited(place.tokens, hidden, place.block.se_hidden),
        ops.conv(place.tokens, hidden, place.width, 1, bias=False),
        ops.norm("batch", place.tokens, place.width),
    ]


def activated(tokens: int, channels: int, biased: bool = False) -> list[Op]:
    """Batch norm, where the convolution before it has no bias, and activation."""
    norms = [] if biased else [ops.norm("batch", tokens, channels)]
    return [*norms, ops.elementwise(tokens * channels)]


def excited(tokens: int, hidden: int, few: int) -> list[Op]:
    """Squeeze-and-excitation of hidden channels by few; nothing where there are none."""
    if not few:
        return []
    return [
        ops.pool(tokens * hidden, hidden),
        ops.conv(1, hidden, few, 1),
        ops.elementwise(few),
        ops.conv(1, few, hidden, 1),
        ops.elementwise(tokens * hidden, 2),
    ]


def _squeezed(ratio: float, given: Given) -> int:
    return squeezed(given.width, ratio)


# Channels between which squeeze-and-excitation weighs the hidden ones; none without it.
SE_HIDDEN = Number("se_hidden", 0.0, field="se_ratio", high=16, build=_squeezed, reads=("width",))

SPEC = Mixer(
    module=".mbconv:MBConv",
    ops=convolutions,
    example=Block("mbconv", mlp_hidden=256, kernel_size=3),
    numbers=(KERNEL_SIZE, SE_HIDDEN),
    rules=(KERNEL_IS_ODD, BRANCHES_DIFFER),
    layout="grid",
    pre_norm=False,
    reparam=True,
    is_mlp=True,
    last="conv_pwl",
    batch_norms={"bn1": "conv_pw", "bn2": "conv_dw", "bn3": "conv_pwl"},
    act_elements=lambda place: 2 * place.tokens * place.block.mlp_hidden,
)
