"""Numbers and operations that several mixers share: heads, kernels, softmax attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .spec import Given, Number, Rule


def _dim_of_head(dim: int, given: Given) -> int:
    heads = given.fields["num_heads"]
    return dim or (given.width // heads if heads and given.width % heads == 0 else 0)


def _dim_of_values(dim: int, given: Given) -> int:
    return 0 if dim == _dim_of_head(given.fields["head_dim"], given) else dim


NUM_HEADS = Number("num_heads", high=1024, axis="heads", arithmetic=True)
HEAD_DIM = Number("head_dim", build=_dim_of_head, reads=("num_heads", "width"), arithmetic=True)
HEADS = (NUM_HEADS, HEAD_DIM)  # heads times their channels need not equal the width
# Channels of the values of a head, where they are not those of its keys; 0 for as many.
VALUE_DIM = Number("value_dim", build=_dim_of_values, reads=("num_heads", "head_dim", "width"))
KV_HEADS = Number("kv_heads", 1, arithmetic=True)  # none means as many as heads
HEADS_GIVEN = Rule(
    ("num_heads", "head_dim", "width"),
    lambda heads, dim, width: heads > 0 and dim > 0,
    "mixer {mixer!r} needs num_heads, and head_dim or a width that the heads divide, "
    "not num_heads {num_heads} and width {width}",
)
KERNEL_SIZE = Number("kernel_size", 3)  # side of a depthwise convolution
KERNEL_IS_ODD = Rule(
    ("kernel_size",),
    lambda kernel: kernel > 0 and kernel % 2 == 1,
    "kernel_size must be odd, not {kernel_size}",
)
BRANCHES_DIFFER = Rule(
    ("kernel_size", "reparam"),
    lambda kernel, reparam: not reparam or kernel > 1,
    "reparam adds a kernel of 1x1 to larger ones, so kernel_size cannot be {kernel_size}",
)
QKV = ("q", "k", "v")

# What pretrained attention has or lacks beside its heads; none of it is a choice.
NO_BIAS = Number("no_bias", "", options=("", "k", "qkv", "all"), fixed=True)  # layers without one
QK_NORM = Number("qk_norm", "", options=("", "layer", "rms"), fixed=True)  # of queries and keys
OUT_NORM = Number("out_norm", "", options=("", "layer", "rms"), fixed=True)  # before projection
SETTINGS = (NO_BIAS, QK_NORM, OUT_NORM)
BIAS_TAKES_NORM = Rule(
    ("no_bias", "norm"),
    lambda layers, norm: not layers or norm not in ("batch", "affine"),
    "no_bias {no_bias!r}: norm {norm!r} is folded into the biases",
)

# Rotary positions: pairs of channels turn by position / rope_base ** k, one half of them by row,
# the other by column (Su et al., arXiv:2104.09864; Heo et al., arXiv:2403.13298). Positions are
# index + rope_offset, scaled to a grid of rope_size ("index": EVA-02, Perception Encoder), or
# -2 pi to 2 pi from border to border ("centered": DINOv3), on grids of every size.
ROPE = Number("rope", "", options=("", "index", "centered"), fixed=True)
ROPE_BASE = Number("rope_base", 0.0, fixed=True)
ROPE_OFFSET = Number("rope_offset", 0.0, low=-1024, fixed=True)
ROPE_SIZE = Number("rope_size", fixed=True)  # 0: that of the grid
ROTARY = (ROPE, ROPE_BASE, ROPE_OFFSET, ROPE_SIZE)
ROPE_FITS = Rule(
    ("rope", "rope_base", "head_dim"),
    lambda rope, base, dim: not rope or (base > 1 and dim % 4 == 0),
    "rope {rope!r} needs rope_base above 1 and a head_dim that is a multiple of 4, not {rope_base} "
    "and {head_dim}",
)
ROPE_KEEPS = Rule(
    ("rope", "token_keep"),
    lambda rope, keep: not rope or keep == 1,
    "token_keep {token_keep} would lose the positions that rope {rope!r} turns tokens by",
)
ROPE_MIXES = Rule(
    ("rope", "mixer_capacity"),
    lambda rope, capacity: not rope or capacity == 1,
    "mixer_capacity {mixer_capacity} would lose the positions that rope {rope!r} turns tokens by",
)


def turned(place: Place) -> int:
    """Elements of the tables of cosines and sines, which graphs hold for queries and for keys."""
    rows = place.prefix + place.tokens
    return 4 * rows * place.block.head_dim if place.block.rope else 0


def softmax_attention(place: Place, rows: int, kv_rows: int, keys: int, kv_heads: int) -> list[Op]:
    """Attention of `rows` queries to `kv_rows` keys, of which each query sees `keys`."""
    return projected(place, rows, kv_rows, kv_heads, products(place.block, rows, keys))


def values_of(block: Block) -> Any:
    """Channels of the values of a head."""
    return block.value_dim or block.head_dim


def products(block: Block, rows: int, keys: int) -> list[Op]:
    """Scores of `rows` queries for `keys` keys each, softmax, and sums of values."""
    return [
        ops.matmul(block.num_heads, rows, block.head_dim, keys),
        ops.softmax(block.num_heads * rows * keys),
        ops.matmul(block.num_heads, rows, keys, values_of(block)),
    ]


def projected(
    place: Place, rows: int, kv_rows: int, kv_heads: int, between: Sequence[Op]
) -> list[Op]:
    """Layers of `rows` queries and `kv_rows` keys and values, what is between, and projection."""
    block, width = place.block, place.width
    inner, kv_inner = block.num_heads * block.head_dim, kv_heads * block.head_dim
    gathered, values = block.num_heads * values_of(block), kv_heads * values_of(block)
    has_bias = {name: not lacks_bias(block, name) for name in (*QKV, "proj")}
    operations = [
        ops.linear(rows, width, inner, has_bias["q"]),
        ops.linear(kv_rows, width, kv_inner, has_bias["k"]),
        ops.linear(kv_rows, width, values, has_bias["v"]),
    ]
    if block.qk_norm:
        operations += [
            ops.norm(block.qk_norm, rows * block.num_heads, block.head_dim),
            ops.norm(block.qk_norm, kv_rows * kv_heads, block.head_dim),
        ]
    if block.rope:
        operations.append(ops.elementwise(2 * (rows * inner + kv_rows * kv_inner), 2))
    operations += between
    if block.out_norm:
        operations.append(ops.norm(block.out_norm, rows, gathered))
    return [*operations, ops.linear(rows, gathered, width, has_bias["proj"])]


def lacks_bias(block: Block, layer: str) -> bool:
    """Whether a layer of attention, q, k, v or proj, has no bias."""
    return block.no_bias == "all" or layer in block.no_bias
