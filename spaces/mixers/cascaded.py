"""Softmax attention of groups of channels, each of which also reads what the one before wrote."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Mixer, Number, Rule


def attention(place: Place) -> list[Op]:
    """One head after the other, and a projection of all."""
    block, tokens, groups = place.block, place.tokens, place.block.num_groups
    dim, key = place.width // groups, block.key_dim
    head = [
        ops.elementwise(tokens * dim, 2),
        ops.conv(tokens, dim, 2 * key + dim, 1, bias=False),
        ops.norm("batch", tokens, 2 * key + dim),
        ops.depthwise(tokens, key, block.kernel_size, bias=False),
        ops.norm("batch", tokens, key),
        ops.matmul(1, tokens, key, tokens),
        ops.softmax(tokens * tokens),
        ops.matmul(1, dim, tokens, tokens),
    ]
    return [
        *(head * groups)[1:],
        ops.elementwise(tokens * place.width),
        ops.conv(tokens, place.width, place.width, 1, bias=False),
        ops.norm("batch", tokens, place.width),
    ]


NUM_GROUPS = Number("num_groups", 4)  # of channels, a head each
KEY_DIM = Number("key_dim", 16, fixed=True)  # channels of queries and keys
GROUPS_DIVIDE = Rule(
    ("num_groups", "key_dim", "width"),
    lambda groups, key, width: groups > 0 and key > 0 and width % groups == 0,
    "mixer {mixer!r} needs key_dim above 0, and num_groups that divide the width, not {key_dim}, "
    "{num_groups} and {width}",
)

SPEC = Mixer(
    module=".cascaded:CascadedAttention",
    ops=attention,
    example=Block("cascaded", num_groups=4, key_dim=16, kernel_size=5),
    numbers=(NUM_GROUPS, KEY_DIM, KERNEL_SIZE),
    rules=(GROUPS_DIVIDE, KERNEL_IS_ODD),
    layout="grid",
    pre_norm=False,
    last="proj",
    batch_norms={"bn": "proj"},
)
