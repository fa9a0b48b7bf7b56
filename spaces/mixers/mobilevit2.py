"""MobileViTv2's block: a depthwise convolution, and transformers with separable attention."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import KERNEL_IS_ODD, KERNEL_SIZE
from .mobilevit import INNER_LAYERS, INNER_WIDTH
from .spec import Mixer, Rule
from .unfold import SQUARES_FIT, UNFOLD_SIZE


def layers(place: Place) -> list[Op]:
    """Convolutions around separable attention and MLPs, whose residuals are inside."""
    block, tokens, width = place.block, place.tokens, place.width
    inner, hidden, elements = block.inner_width, block.mlp_hidden, tokens * block.inner_width
    transformer = [
        ops.norm("group1", tokens, inner),
        ops.conv(tokens, inner, 1 + inner, 1),
        ops.conv(tokens, inner, inner, 1),
        ops.softmax(tokens),
        ops.elementwise(elements, 2),
        ops.pool(elements, inner * block.unfold_size**2),
        ops.elementwise(elements),
        ops.elementwise(elements, 2),
        ops.conv(tokens, inner, inner, 1),
        ops.elementwise(elements, 2),
        ops.norm("group1", tokens, inner),
        ops.conv(tokens, inner, hidden, 1),
        ops.elementwise(tokens * hidden),
        ops.conv(tokens, hidden, inner, 1),
        ops.elementwise(elements, 2),
    ]
    return [
        ops.depthwise(tokens, width, block.kernel_size, bias=False),
        ops.norm("batch", tokens, width),
        ops.elementwise(tokens * width),
        ops.conv(tokens, width, inner, 1, bias=False),
        *transformer * block.inner_layers,
        ops.norm("group1", tokens, inner),
        ops.conv(tokens, inner, width, 1, bias=False),
        ops.norm("batch", tokens, width),
    ]


INNER_GIVEN = Rule(
    ("inner_width", "inner_layers"),
    lambda width, count: width > 0 and count > 0,
    "mixer {mixer!r} needs inner_width and inner_layers above 0, not {inner_width} and "
    "{inner_layers}",
)

SPEC = Mixer(
    module=".mobilevit2:MobileVit2",
    ops=layers,
    example=Block(
        *("mobilevit2",),
        mlp_hidden=128,
        kernel_size=3,
        unfold_size=2,
        inner_width=64,
        inner_layers=2,
    ),
    numbers=(KERNEL_SIZE, UNFOLD_SIZE, INNER_WIDTH, INNER_LAYERS),
    rules=(KERNEL_IS_ODD, SQUARES_FIT, INNER_GIVEN),
    layout="grid",
    pre_norm=False,
    residual=False,  # the convolutions around the transformers have none
    is_mlp=True,
    batch_norms={"bn1": "conv_kxk", "bn2": "conv_proj"},
    act_elements=lambda place: (
        place.tokens * (place.width + place.block.inner_layers * place.block.mlp_hidden)
    ),
)
