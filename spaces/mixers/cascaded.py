"""Softmax attention of groups of channels, each of which also reads what the one before wrote."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import KERNEL_IS_ODD, KERNEL_SIZE
from .spec import Mixer, Number, Rule


def attention(place: Place) -> list[Op]:
    """One head after the other among all tokens, and a projection of all."""
    return cascade(place, place.tokens, place.tokens)


def cascade(place: Place, tokens: int, seen: int, biases: Sequence[Op] = ()) -> list[Op]:
    """One head after the other among some tokens, and a projection of all.

    Args:
        place: of the mixer.
        tokens: how many there are, with those that fill windows.
        seen: tokens that see each other.
        biases: what is added to the scores of each head.
    """
    dim, key = place.width // place.block.num_groups, place.block.key_dim
    heads: list[Op] = []
    for kernel in kernels_of(place.block):
        heads += [
            ops.elementwise(tokens * dim, 2),
            ops.conv(tokens, dim, 2 * key + dim, 1, bias=False),
            ops.norm("batch", tokens, 2 * key + dim),
            ops.depthwise(tokens, key, kernel, bias=False),
            ops.norm("batch", tokens, key),
            ops.matmul(tokens // seen, seen, key, seen),
            *biases,
            ops.softmax(tokens * seen),
            ops.matmul(tokens // seen, dim, seen, seen),
        ]
    return [
        *heads[1:],  # the first head has nothing to add
        ops.elementwise(tokens * place.width),
        ops.conv(tokens, place.width, place.width, 1, bias=False),
        ops.norm("batch", tokens, place.width),
    ]


def kernels_of(block: Block) -> list[int]:
    """Side of the kernel of each head's queries.

    >>> kernels_of(Block("cascaded", num_groups=4, kernel_size=7, kernel_step=2))
    [7, 5, 3, 3]
    """
    first, least = block.kernel_size, min(block.kernel_size, LEAST_KERNEL)
    return [max(least, first - head * block.kernel_step) for head in range(block.num_groups)]


LEAST_KERNEL = 3  # of heads with smaller kernels than those before them
NUM_GROUPS = Number("num_groups", 4)  # of channels, a head each
KEY_DIM = Number("key_dim", 16, fixed=True)  # channels of queries and keys
KERNEL_STEP = Number("kernel_step", fixed=True)  # by which each head's kernel is smaller
STEP_IS_EVEN = Rule(
    ("kernel_step",),
    lambda step: step % 2 == 0,
    "kernel_step must be even, as kernels are odd, not {kernel_step}",
)
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
    numbers=(NUM_GROUPS, KEY_DIM, KERNEL_SIZE, KERNEL_STEP),
    rules=(GROUPS_DIVIDE, KERNEL_IS_ODD, STEP_IS_EVEN),
    layout="grid",
    pre_norm=False,
    last="proj",
    batch_norms={"bn": "proj"},
)
