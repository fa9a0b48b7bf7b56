"""MBConv with its residual, and an activation after their sum, as in TinyViT."""

from __future__ import annotations

from dataclasses import replace

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .mbconv import SPEC as MBCONV
from .mbconv import convolutions


def activated(place: Place) -> list[Op]:
    """Convolutions, sum and activation."""
    elements = place.tokens * place.width
    return [*convolutions(place), ops.elementwise(elements, 2), ops.elementwise(elements)]


SPEC = replace(
    MBCONV,
    module=".mbconv_act:ActivatedMBConv",
    ops=activated,
    example=Block("mbconv_act", mlp_hidden=256, kernel_size=3),
    residual=False,  # it is inside
    last="",
    act_elements=lambda place: place.tokens * (2 * place.block.mlp_hidden + place.width),
)
