"""Softmax attention over the grid whose layers have batch norms, with values wider than keys."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .common import HEADS, HEADS_GIVEN, VALUE_DIM, values_of
from .spec import Mixer

WIDER = 4  # values than keys, where it halves the grid


def attention(place: Place) -> list[Op]:
    """Every token sees all tokens."""
    return attend(place.block, place.tokens, place.tokens, place.width, place.width)


def attend(block: Block, queries: int, keys: int, inputs: int, outputs: int) -> list[Op]:
    """Some tokens see all tokens.

    Args:
        block: with the numbers of heads.
        queries: tokens that see.
        keys: tokens that are seen.
        inputs: channels of a token.
        outputs: channels of what it gives.
    """
    heads, pairs = block.num_heads, queries * keys
    key, value = heads * block.head_dim, heads * values_of(block)
    return [
        *_normed(queries, inputs, key),
        *_normed(keys, inputs, key),
        *_normed(keys, inputs, value),
        ops.matmul(heads, queries, block.head_dim, keys),
        # A bias for each distance, which an exported graph holds for each pair.
        Op("constant", others=heads * keys, writes=heads * pairs),
        ops.elementwise(heads * pairs, 2),
        ops.softmax(heads * pairs),
        ops.matmul(heads, queries, keys, values_of(block)),
        ops.elementwise(queries * value),
        *_normed(queries, value, outputs),
    ]


def _normed(rows: int, inputs: int, outputs: int) -> list[Op]:
    return [ops.linear(rows, inputs, outputs, bias=False), ops.norm("batch", rows, outputs)]


def halving(inputs: int, head_dim: int) -> Block:
    """The numbers of the attention that halves a grid: as many heads as there is room for.

    >>> halving(128, 16).num_heads, halving(128, 16).value_dim
    (8, 64)
    """
    heads = max(1, inputs // head_dim)
    return Block("levit", num_heads=heads, head_dim=head_dim, value_dim=WIDER * head_dim)


SPEC = Mixer(
    module=".levit:attention",
    ops=attention,
    example=Block("levit", num_heads=3, head_dim=64, value_dim=128),
    numbers=(*HEADS, VALUE_DIM),
    rules=(HEADS_GIVEN,),
    pre_norm=False,
    last="proj",
    batch_norms={"q_norm": "q", "k_norm": "k", "v_norm": "v", "norm": "proj"},
    act_elements=lambda place: place.tokens * place.block.num_heads * values_of(place.block),
)
