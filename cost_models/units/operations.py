"""Operations: those of a sub-block for one image, each with its multiply-accumulates and bytes."""

from __future__ import annotations

from functools import lru_cache

from ...spaces import Policy
from ...spaces import ops as o
from ...spaces.architecture import FUSING, INVERTED, TWO_HEADS
from ...spaces.mixers import find
from ...spaces.mixers.levit import attend
from ...spaces.mixers.mbconv import activated, excited
from ...spaces.mixers.talking_heads import halving
from ...spaces.ops import Op
from ...spaces.transforms import policy_transforms
from .signature import MLP_VARIANTS, Signature


@lru_cache(maxsize=1 << 16)
def ops_of(unit: Signature) -> list[Op]:
    """Operations of a sub-block, counted once; nobody changes the list."""
    return count_ops(unit)


def count_ops(unit: Signature) -> list[Op]:
    """Count the operations of `SubBlock.ops` anew, for callers that need them once."""
    return transformed(_BY_KIND[unit.kind](unit), unit.policy)


def transformed(ops: list[Op], policy: Policy) -> list[Op]:
    """The operations that compute the same under a policy."""
    known = policy_transforms()
    for name, value in policy.others:
        if change := known[name].ops:
            ops = change(ops, value)
    return ops


def _stem_ops(unit: Signature) -> list[Op]:
    place, inputs, patch = unit.place, unit.inputs, unit.patch_size
    grid = place.grid[0] * place.grid[1]
    ops: list[Op] = []
    if unit.variant in ("patch", "overlap"):
        side = patch if unit.variant == "patch" else 2 * patch - 1
        ops.append(o.conv(grid, inputs, place.width, side, patch, "no_bias" not in unit.flags))
    else:
        steps = patch.bit_length() - 1
        for step in range(steps):
            outputs = max(8, place.width >> (steps - 1 - step))
            positions = grid << 2 * (steps - 1 - step)
            ops.append(o.conv(positions, inputs, outputs, 3, 2, bias=False))
            ops.append(o.norm("batch", positions, outputs))
            ops.append(o.elementwise(positions * outputs))
            inputs = outputs
        if unit.variant == "conv":
            ops.append(o.conv(grid, inputs, place.width, 1))
        elif unit.variant == "convs":
            ops.pop()  # no activation follows the last one
    if "norm" in unit.flags:
        ops.append(o.norm(unit.norm, grid, place.width))
    rows = place.prefix + grid
    positions = rows if "pos" in unit.flags else grid if "patch_pos" in unit.flags else 0
    table = positions * place.width
    if place.prefix or table:
        ops.append(o.elementwise(rows * place.width, 2, others=place.prefix * place.width + table))
    if "pre_norm" in unit.flags:
        ops.append(o.norm(unit.norm, rows, place.width))
    return ops


def _downsample_ops(unit: Signature) -> list[Op]:
    place, stride = unit.place, 1 if "stride_1" in unit.flags else 2
    if unit.variant == "merge":
        return [
            o.norm(unit.norm, place.tokens, 4 * unit.inputs),
            o.linear(place.tokens, 4 * unit.inputs, place.width, bias=False),
        ]
    if unit.variant == "mbconv":
        positions, width = 4 * place.tokens, place.width
        return [
            o.conv(positions, unit.inputs, width, 1, bias=False),
            o.norm("batch", positions, width),
            o.elementwise(positions * width),
            o.depthwise(place.tokens, width, 3, bias=False)._replace(reads=positions * width),
            o.norm("batch", place.tokens, width),
            o.elementwise(place.tokens * width),
            o.conv(place.tokens, width, width, 1, bias=False),
            o.norm("batch", place.tokens, width),
        ]
    if unit.variant == "merge_post":
        return [
            o.linear(place.tokens, 4 * unit.inputs, place.width, bias=False),
            o.norm(unit.norm, place.tokens, place.width),
        ]
    if unit.variant == "patch":
        return [
            o.norm(unit.norm, 4 * place.tokens, unit.inputs),
            o.conv(place.tokens, unit.inputs, place.width, 2, 2),
        ]
    if unit.variant == "overlap":
        return [o.conv(place.tokens, unit.inputs, place.width, 3, stride)]
    if unit.variant in INVERTED:
        return _inverted_ops(unit)
    if unit.variant == "attention":
        return attend(place.block, place.kept, place.tokens, unit.inputs, place.width)
    kernel = 1 if unit.variant == "pointwise" else 3
    layers = [
        o.conv(place.tokens, unit.inputs, place.width, kernel, stride, bias=False),
        o.norm("batch", place.tokens, place.width),
    ]
    if unit.variant == "conv_attention":
        attention = halving(place.tokens, unit.inputs, place.width)
        return [*layers, *attention, o.elementwise(place.tokens * place.width, 2)]
    return [*layers, o.elementwise(place.tokens * place.width)] if kernel == 1 else layers


def _inverted_ops(unit: Signature) -> list[Op]:
    place, block = unit.place, unit.place.block
    hidden, positions = block.mlp_hidden or unit.inputs, unit.side_before**2
    biased = unit.variant == "inverted_bias"
    expanding = [
        o.conv(positions, unit.inputs, hidden, 1, bias=biased),
        *activated(positions, hidden, biased),
    ]
    depthwise = o.depthwise(place.tokens, hidden, block.kernel_size, bias=biased)
    return [
        *(expanding if block.mlp_hidden else []),
        depthwise._replace(reads=positions * hidden),
        *activated(place.tokens, hidden, biased),
        *excited(place.tokens, hidden, block.se_hidden),
        o.conv(place.tokens, hidden, place.width, 1, bias=False),
        o.norm("batch", place.tokens, place.width),
    ]


def _mixer_ops(unit: Signature) -> list[Op]:
    place, traits = unit.place, find(unit.place.block.mixer)
    rows, ops = unit.fed_rows, _routing_ops(unit)
    ops += [o.norm(unit.norm, rows, place.width)] if traits.pre_norm else []
    ops += traits.ops(unit.seen)
    if traits.residual:
        ops += _residual(unit, rows)
    if unit.reduction in FUSING:
        ops.append(o.pool(place.block.num_heads * rows * rows, place.tokens))
        ops.append(o.matmul(1, 1, place.tokens, place.width))
        ops.append(o.matmul(1, 1, place.kept - 1, place.width))
    if unit.reduction == "evit_mean":
        ops.append(o.pool(place.tokens + place.kept - 1, 2))
        ops.append(o.elementwise(place.width))
    if unit.reduction:
        ops.append(o.elementwise((place.prefix + place.kept) * place.width))
    return ops


def _mlp_ops(unit: Signature) -> list[Op]:
    place, hidden = unit.place, unit.place.block.mlp_hidden
    rows, width = unit.fed_rows, place.width
    bias = "no_bias" not in unit.flags
    first = o.layer(unit.layout, rows, width, hidden, bias)
    gated = unit.variant in MLP_VARIANTS["glu"]
    return [
        *_routing_ops(unit),
        o.norm(unit.norm, rows, width),
        *([first] * (1 + gated)),
        o.elementwise(rows * hidden),
        *([o.elementwise(rows * hidden, 2)] * gated),
        *([o.norm(unit.norm, rows, hidden)] if "mlp_norm" in unit.flags else []),
        o.layer(unit.layout, rows, hidden, width, bias),
        *_residual(unit, rows),
    ]


def _routing_ops(unit: Signature) -> list[Op]:
    """Scores and ranks of all tokens, and what takes the chosen ones out and puts them back."""
    if not unit.is_routed:
        return []
    place, width = unit.place, unit.place.width
    rows, chosen = place.prefix + place.tokens, unit.fed_rows
    moves = [o.elementwise(chosen * width), o.elementwise(rows * width)]
    if unit.routing != "learned":
        return moves
    # The score is a layer, but of none of the policies: which token is chosen hangs on little.
    score = o.linear(rows, width, 1)
    score = score._replace(weights=0, others=score.weights + score.others)
    ranks = o.pool(place.tokens, unit.fed_tokens)
    return [score, ranks, o.elementwise(chosen * width, 2), *moves]


def _residual(unit: Signature, rows: int) -> list[Op]:
    elements = rows * unit.place.width
    scale = [o.elementwise(elements, others=unit.place.width)] if "scale" in unit.flags else []
    return [*scale, o.elementwise(elements, 2)]


def _head_ops(unit: Signature) -> list[Op]:
    place = unit.place
    rows, width = place.prefix + place.tokens, place.width
    moved = "pooled" in unit.flags or "none" in unit.flags
    ops = [] if moved else [o.norm(unit.norm, rows, width)]
    pooled = rows if "pool_registers" in unit.flags else place.tokens
    if unit.variant in ("avg", "avg_distill", "token_avg"):
        ops.append(o.pool(pooled * width, width))
    elif unit.variant == "map":
        ops += _attention_pool_ops(unit, pooled)
    heads = 2 if unit.variant in TWO_HEADS else 1
    if "pooled" in unit.flags:
        each = unit.variant == "avg_distill"  # of both heads a norm of its own
        ops += [o.norm(unit.norm, 1, width)] * 2 if each else [o.norm(unit.norm, heads, width)]
    features = 2 * width if unit.variant == "token_avg" else width
    if hidden := place.block.mlp_hidden:
        normed = "head_norm" in unit.flags
        ops.append(o.linear(1, width, hidden, not normed))
        ops += [*([o.norm(unit.norm, 1, hidden)] * normed), o.elementwise(hidden)]
        features = hidden
    return ops + [o.linear(1, features, unit.outputs)] * (heads if unit.outputs else 0)


def _attention_pool_ops(unit: Signature, rows: int) -> list[Op]:
    width, heads, hidden = unit.place.width, unit.pool_heads, unit.pool_hidden
    dim = width // heads
    return [
        # The query and its layer, one vector once the graph is exported.
        Op("constant", width**2, width**2, 2 * width, writes=width),
        o.linear(rows, width, width),
        o.linear(rows, width, width),
        o.matmul(heads, 1, dim, rows),
        o.softmax(heads * rows),
        o.matmul(heads, 1, rows, dim),
        o.linear(1, width, width),
        o.norm(unit.norm, 1, width),
        o.linear(1, width, hidden),
        o.elementwise(hidden),
        o.linear(1, hidden, width),
        o.elementwise(width, 2),
    ]


_BY_KIND = {
    "stem": _stem_ops,
    "downsample": _downsample_ops,
    "mixer": _mixer_ops,
    "mlp": _mlp_ops,
    "head": _head_ops,
}
