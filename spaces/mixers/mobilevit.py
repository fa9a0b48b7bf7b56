"""MobileViT's block: a convolution, transformers of another width on squares, and a fusion."""

from __future__ import annotations

from dataclasses import replace

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import KERNEL_IS_ODD, KERNEL_SIZE, projected
from .spec import Mixer, Number, Rule
from .unfold import SQUARES_FIT, UNFOLD_SIZE


def inner_place(place: Place) -> Place:
    """The place of its attention, as a block on tokens of the inner width."""
    block, width = place.block, place.block.inner_width
    heads = Block("unfold", num_heads=block.inner_heads, head_dim=width // block.inner_heads)
    return replace(place, block=heads, width=width)


def layers(place: Place) -> list[Op]:
    """Convolutions around attention and MLPs, whose residuals are inside."""
    block, tokens, width = place.block, place.tokens, place.width
    kernel, inner, hidden = block.kernel_size, block.inner_width, block.mlp_hidden
    within = inner_place(place)
    heads, dim, keys = block.inner_heads, inner // block.inner_heads, tokens // block.unfold_size**2
    attention = [
        ops.matmul(heads, tokens, dim, keys),
        ops.softmax(heads * tokens * keys),
        ops.matmul(heads, tokens, keys, dim),
    ]
    transformer = [
        ops.norm("layer", tokens, inner),
        *projected(within, tokens, tokens, heads, attention),
        ops.elementwise(tokens * inner, 2),
        ops.norm("layer", tokens, inner),
        ops.linear(tokens, inner, hidden),
        ops.elementwise(tokens * hidden),
        ops.linear(tokens, hidden, inner),
        ops.elementwise(tokens * inner, 2),
    ]
    return [
        *_activated(tokens, width, width, kernel),
        ops.conv(tokens, width, inner, 1, bias=False),
        *transformer * block.inner_layers,
        ops.norm("layer", tokens, inner),
        *_activated(tokens, inner, width, 1),
        *_activated(tokens, 2 * width, width, kernel),
    ]


def _activated(tokens: int, inputs: int, outputs: int, kernel: int) -> list[Op]:
    """A convolution with batch norm and activation."""
    return [
        ops.conv(tokens, inputs, outputs, kernel, bias=False),
        ops.norm("batch", tokens, outputs),
        ops.elementwise(tokens * outputs),
    ]


INNER_WIDTH = Number("inner_width", 64)  # channels of its transformers
INNER_HEADS = Number("inner_heads", 4, high=1024)
INNER_LAYERS = Number("inner_layers", 2, high=64)  # how many transformers
INNER_FITS = Rule(
    ("inner_width", "inner_heads", "inner_layers"),
    lambda width, heads, count: width > 0 and heads > 0 and width % heads == 0 and count > 0,
    "mixer {mixer!r} needs inner_layers above 0, and inner_heads that divide inner_width, not "
    "{inner_layers}, {inner_heads} and {inner_width}",
)

SPEC = Mixer(
    module=".mobilevit:MobileVit",
    ops=layers,
    example=Block(
        *("mobilevit",),
        mlp_hidden=128,
        kernel_size=3,
        unfold_size=2,
        inner_width=64,
        inner_heads=4,
        inner_layers=2,
    ),
    numbers=(KERNEL_SIZE, UNFOLD_SIZE, INNER_WIDTH, INNER_HEADS, INNER_LAYERS),
    rules=(KERNEL_IS_ODD, SQUARES_FIT, INNER_FITS),
    layout="grid",
    pre_norm=False,
    residual=False,  # what enters is fused with what comes out
    is_mlp=True,
    batch_norms={"bn1": "conv_kxk", "bn2": "conv_proj", "bn3": "conv_fusion"},
    act_elements=lambda place: (
        place.tokens * (3 * place.width + place.block.inner_layers * place.block.mlp_hidden)
    ),
)
