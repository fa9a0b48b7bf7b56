"""Numbers and operations that several mixers share: heads, kernels, softmax attention."""

from __future__ import annotations

from .. import ops
from ..block import Place
from ..ops import Op
from .spec import Given, Number, Rule


def _dim_of_head(dim: int, given: Given) -> int:
    heads = given.fields["num_heads"]
    return dim or (given.width // heads if heads and given.width % heads == 0 else 0)


NUM_HEADS = Number("num_heads", high=1024, axis="heads", arithmetic=True)
HEAD_DIM = Number("head_dim", build=_dim_of_head, reads=("num_heads", "width"), arithmetic=True)
HEADS = (NUM_HEADS, HEAD_DIM)  # heads times their channels need not equal the width
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
QKV = ("q", "k", "v")


def softmax_attention(place: Place, rows: int, kv_rows: int, keys: int, kv_heads: int) -> list[Op]:
    """Attention of `rows` queries to `kv_rows` keys, of which each query sees `keys`."""
    block, width = place.block, place.width
    inner, kv_inner = block.num_heads * block.head_dim, kv_heads * block.head_dim
    return [
        ops.linear(rows, width, inner),
        ops.linear(kv_rows, width, kv_inner),
        ops.linear(kv_rows, width, kv_inner),
        ops.matmul(block.num_heads, rows, block.head_dim, keys),
        ops.softmax(block.num_heads * rows * keys),
        ops.matmul(block.num_heads, rows, keys, block.head_dim),
        ops.linear(rows, inner, width),
    ]
