"""A mixer: a depthwise convolution with holes, then a 1x1 one (arXiv:1511.07122)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from vitpareto.spaces import Block, Place, ops
from vitpareto.spaces.mixers import Mixer, Number, Rule
from vitpareto.spaces.mixers.common import KERNEL_IS_ODD, KERNEL_SIZE

if TYPE_CHECKING:
    from torch import nn

DILATION = Number("dilation", 1, low=1)  # steps of the grid from one element of the kernel on
HOLES_FIT = Rule(
    ("dilation", "grid"),
    lambda dilation, grid: dilation < grid,
    "dilation {dilation} leaves the token grid of {grid}x{grid}",
)


def operations(place: Place) -> list[ops.Op]:
    """What is computed; holes cost nothing."""
    tokens, width = place.tokens, place.width
    return [
        ops.depthwise(tokens, width, place.block.kernel_size),
        ops.elementwise(tokens * width),
        ops.conv(tokens, width, width, 1),
    ]


def module(place: Place) -> nn.Module:
    """The layers, (B, C, H, W) -> (B, C, H, W); torch is imported when a network is built."""
    from torch import nn

    from vitpareto.spaces.networks.norms import make_act
    from vitpareto.spaces.networks.sharing import Shared, center, uncenter

    width, kernel, step = place.width, place.block.kernel_size, place.block.dilation
    padding = step * (kernel // 2)
    layers = nn.Sequential(
        OrderedDict(
            dwconv=nn.Conv2d(width, width, kernel, 1, padding, dilation=step, groups=width),
            act=make_act(place.act),
            proj=nn.Conv2d(width, width, 1),
        )
    )
    # A smaller kernel is the middle of a larger one; everything else is a leading slice.
    rule = Shared((width, 1, kernel, kernel), "_ _ whole whole", center(kernel), uncenter)
    layers.shared = {"dwconv.weight": rule}
    return layers


SPEC = Mixer(
    module="vitpareto_example.dilated:module",
    ops=operations,
    example=Block("dilated", kernel_size=3, dilation=2),
    numbers=(KERNEL_SIZE, DILATION),
    rules=(KERNEL_IS_ODD, HOLES_FIT),
    layout="grid",
    last="proj",
    act_elements=lambda place: place.tokens * place.width,
)
