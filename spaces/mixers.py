"""The registry of mixers: what each one needs, where its module is, and what it computes.

A new mixer is one module file in `networks/` and one line in `MIXERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache

from . import ops
from .block import Block, Place
from .errors import UnknownNameError
from .ops import Op


def attention(place: Place) -> list[Op]:
    """Softmax attention over all tokens."""
    rows = place.prefix + place.tokens
    return _softmax_attention(place, rows, rows, rows, place.block.num_heads)


def grouped(place: Place) -> list[Op]:
    """The same with fewer heads for keys and values, which several heads of queries share."""
    rows = place.prefix + place.tokens
    return _softmax_attention(place, rows, rows, rows, place.block.kv_heads)


def pooled(place: Place) -> list[Op]:
    """Softmax attention whose keys and values are averaged over squares of the grid."""
    rows, side = place.prefix + place.tokens, place.block.kv_pool
    height, width = place.grid
    keys = place.prefix + -(-height // side) * -(-width // side)
    found = _softmax_attention(place, rows, keys, keys, place.block.num_heads)
    if side > 1:
        found.insert(0, ops.pool(rows * place.width, keys * place.width))
    return found


def window(place: Place) -> list[Op]:
    """Softmax attention inside (shifted) windows, with a bias by relative position."""
    block, side = place.block, place.window
    rows = [-(-length // side) * side for length in place.grid]  # padded to whole windows
    padded = rows[0] * rows[1]
    found = _softmax_attention(place, padded, padded, side * side, block.num_heads)
    if place.relative:
        table = (2 * side - 1) ** 2 * block.num_heads
        found.append(ops.elementwise(block.num_heads * padded * side * side, 2, others=table))
    return found


def linear_attention(place: Place) -> list[Op]:
    """ReLU linear attention: keys times values first, so that cost grows with tokens only."""
    block, rows = place.block, place.prefix + place.tokens
    inner = block.num_heads * block.head_dim
    return [
        *(ops.linear(rows, place.width, inner) for _ in "qkv"),
        ops.elementwise(2 * rows * inner),
        ops.matmul(block.num_heads, block.head_dim, rows, block.head_dim),
        ops.matmul(block.num_heads, rows, block.head_dim, block.head_dim),
        ops.matmul(block.num_heads, rows, block.head_dim, 1),
        ops.elementwise(rows * inner, 2),
        ops.depthwise(place.tokens, inner, block.kernel_size),
        ops.elementwise(rows * inner, 2),
        ops.linear(rows, inner, place.width),
    ]


def token_mlp(place: Place) -> list[Op]:
    """Two linear layers across tokens, as in MLP-Mixer."""
    hidden = place.block.token_hidden
    return [
        ops.linear(place.width, place.tokens, hidden),
        ops.elementwise(place.width * hidden),
        ops.linear(place.width, hidden, place.tokens),
    ]


def average_pool(place: Place) -> list[Op]:
    """The mean of a 3x3 neighborhood minus the token itself, as in PoolFormer."""
    elements = place.tokens * place.width
    return [ops.pool(elements, elements), ops.elementwise(elements, 2)]


def mbconv(place: Place) -> list[Op]:
    """Expansion, depthwise convolution, projection, each with batch norm (MobileNetV2)."""
    hidden, kernel = place.block.mlp_hidden, place.block.kernel_size
    return [
        ops.conv(place.tokens, place.width, hidden, 1, bias=False),
        ops.norm("batch", place.tokens, hidden),
        ops.elementwise(place.tokens * hidden),
        ops.depthwise(place.tokens, hidden, kernel, bias=False),
        ops.norm("batch", place.tokens, hidden),
        ops.elementwise(place.tokens * hidden),
        ops.conv(place.tokens, hidden, place.width, 1, bias=False),
        ops.norm("batch", place.tokens, place.width),
    ]


def _softmax_attention(place: Place, rows: int, kv_rows: int, keys: int, kv_heads: int) -> list[Op]:
    """Attention of `rows` queries, of `kv_rows` keys in all, each query seeing `keys` of them."""
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


@dataclass(frozen=True, slots=True)
class Mixer:
    """The traits of a mixer.

    Attributes:
        module: file in `networks/` and class in it.
        fields: the fields of `Block` that the mixer reads.
        ops: what it computes at a place.
        layout: "tokens" for (B, N, C), "grid" for (B, C, H, W).
        needs_grid: it uses the two-dimensional arrangement, so no token may be missing.
        takes_prefix: it can carry class tokens beside the grid.
        ranks_tokens: it has an attention map from which tokens can be ranked.
        pre_norm: it is preceded by the block's norm; convolutions bring their own.
        fixed_tokens: its weights are tied to one number of tokens.
        is_mlp: it expands channels itself, so that no MLP follows.
    """

    module: str
    fields: tuple[str, ...]
    ops: Callable[[Place], list[Op]]
    layout: str = "tokens"
    needs_grid: bool = True
    takes_prefix: bool = False
    ranks_tokens: bool = False
    pre_norm: bool = True
    fixed_tokens: bool = False
    is_mlp: bool = False


_HEADS = ("num_heads", "head_dim")


def _plain(fields: tuple[str, ...], ops: Callable[[Place], list[Op]]) -> Mixer:
    """Attention over a set of tokens: no grid, and a map that ranks them."""
    return Mixer(
        *("attention:Attention", fields, ops),
        needs_grid=False,
        takes_prefix=True,
        ranks_tokens=True,
    )


MIXERS: dict[str, Mixer] = {
    "softmax": _plain(_HEADS, attention),
    "grouped": _plain((*_HEADS, "kv_heads"), grouped),
    "pooled": Mixer("pooled:PooledAttention", (*_HEADS, "kv_pool"), pooled, takes_prefix=True),
    "window": Mixer("window:WindowAttention", (*_HEADS, "window_size", "shift"), window),
    "linear": Mixer(
        "linear:LinearAttention", (*_HEADS, "kernel_size"), linear_attention, takes_prefix=True
    ),
    "token_mlp": Mixer("token_mlp:TokenMlp", ("token_hidden",), token_mlp, fixed_tokens=True),
    "pool": Mixer("pool:AveragePool", (), average_pool, layout="grid"),
    "mbconv": Mixer(
        *("mbconv:MBConv", ("kernel_size",), mbconv), layout="grid", pre_norm=False, is_mlp=True
    ),
}

_ALWAYS = {"mixer", "mlp_hidden", "token_keep"}
_DEFAULTS = {field.name: field.default for field in fields(Block) if field.name not in _ALWAYS}


def find(name: str) -> Mixer:
    """The mixer of that name.

    Raises:
        UnknownNameError: no such mixer; the message names the closest one.
    """
    try:
        return MIXERS[name]
    except (KeyError, TypeError):
        raise UnknownNameError("mixer", name, MIXERS) from None


@lru_cache(maxsize=1 << 16)
def canonical(block: Block) -> Block:
    """The same block with every field that its mixer does not read at its default."""
    used = find(block.mixer).fields
    idle = {k: v for k, v in _DEFAULTS.items() if k not in used and getattr(block, k) != v}
    return replace(block, **idle) if idle else block
