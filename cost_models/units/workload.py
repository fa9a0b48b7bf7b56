"""Workload: a candidate as the ordered residual sub-blocks that a device will run.

The sub-block (norm + mixer + add, norm + MLP + add, stem, downsampling, head) is the unit of
measurement: built from the same modules as the network, so that what a runtime fuses is inside
the number. Everything here is exact arithmetic on the candidate; nothing imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import ceil

from ...spaces import Architecture, Block, Candidate, Place, Policy
from ...spaces import ops as o
from ...spaces.architecture import TOKEN_ROUTINGS
from ...spaces.errors import CostError
from ...spaces.mixers import find
from ...spaces.mixers.mbconv import excited
from ...spaces.mixers.spec import Mixer
from ...spaces.ops import Op
from ...spaces.places import places
from ...spaces.transforms import policy_transforms

FLOAT_BYTES = 4
LONG = 1 << 12  # inputs of a layer whose share of zeros is that of any
NORM_EPS = 1e-6  # of all norms that are measured; it takes no time


@dataclass(frozen=True, slots=True)
class SubBlock:
    """One unit of work; equal sub-blocks cost the same.

    Attributes:
        kind: stem, mixer, mlp, downsample or head.
        place: shapes; of a stem or head, those of the block beside it. Its block holds the numbers
            of "inverted" downsampling, and the units of a layer before the head.
        policy: compression of its weights.
        norm: norm of the network.
        variant: mixer name, stem, downsampling or pooling, by kind.
        inputs: channels in, where they differ from the width: image channels of a stem,
            width before a downsampling.
        outputs: classes of a head.
        patch_size: of a stem.
        flags: of a stem "pos" or "patch_pos" (table added), "no_bias", "norm" (after the stem) and
            "pre_norm"; of a downsampling "stride_1" (the grid stays); of mixers and MLPs "scale"
            (layer scale), "post_norm", "mlp_norm" and "no_bias"; of mixers that drop tokens "evit"
            or "random"; of MLPs for chosen tokens "learned" or "random"; of a head "pooled" or
            "none" (place of the norm) and "pool_registers".
        pool_heads: of a head that pools by attention.
        pool_hidden: hidden units of its MLP.
    """

    kind: str
    place: Place
    policy: Policy
    norm: str
    variant: str
    inputs: int = 0
    outputs: int = 0
    patch_size: int = 0
    flags: tuple[str, ...] = ()
    pool_heads: int = 0
    pool_hidden: int = 0

    @property
    def key(self) -> str:
        """Canonical text: kind, variant and all numbers that differ from their default."""
        p = self.place
        parts = [f"norm={self.norm}", f"act={p.act}", f"width={p.width}", f"grid={p.grid[0]}"]
        parts += [f"{n}={getattr(self, n)}" for n in _NUMBERS if getattr(self, n)]
        if p.tokens != p.grid[0] * p.grid[1] or p.kept != p.tokens:
            parts += [f"tokens={p.tokens}", f"kept={p.kept}"]
        parts += [f"routed={p.routed}"] if p.routed else []
        parts += [f"prefix={p.prefix}"] if p.prefix else []
        parts += [f"registers={p.registers}"] if p.registers else []
        if mixer := self.described:
            numbers = dict(p.block.numbers)
            parts += [f"{n}={numbers[n]}" for n in mixer.fields if n in numbers]
        if p.block.mlp_hidden:
            parts.append(f"mlp_hidden={p.block.mlp_hidden}")
        parts += [f"{n}={v}" for n, v in self.policy.changes().items()]
        parts += ["relative"] if self.is_relative else []
        # A mixer's layout is its own; stem, MLP and head take that of the block beside them.
        parts += ["layout=grid"] if self.kind in _BETWEEN and self.layout == "grid" else []
        return f"{self.kind}/{self.variant}?{'&'.join([*parts, *self.flags])}"

    @classmethod
    def parse(cls, key: str) -> SubBlock:
        """Inverse of `key`, up to what has no effect on cost.

        Raises:
            CostError: the text is not a key.
        """
        return _parse(key)

    @property
    def layout(self) -> str:
        """Tokens or grid, the form of its input."""
        return find(self.place.block.mixer).layout

    @property
    def mixer(self) -> Mixer | None:
        """Description of its mixer, if it is one."""
        return find(self.variant) if self.kind == "mixer" else None

    @property
    def described(self) -> Mixer | None:
        """Description of the mixer whose numbers it has: its own, or those of "inverted"."""
        return find("mbconv") if self.variant == "inverted" else self.mixer

    @property
    def is_routed(self) -> bool:
        """Whether it is an MLP that only chosen tokens get."""
        return self.kind == "mlp" and any(flag in TOKEN_ROUTINGS for flag in self.flags)

    @property
    def fed_rows(self) -> int:
        """Rows that an MLP gets, class tokens and registers among them."""
        return self.place.prefix + (self.place.routed if self.is_routed else self.place.tokens)

    @property
    def is_relative(self) -> bool:
        """Whether it adds a bias by relative position."""
        return self.place.relative and self.mixer is not None and self.mixer.relative

    def ops(self) -> list[Op]:
        """Operations for one image, low-rank factors included."""
        return _ops(self)

    @property
    def params(self) -> int:
        """Weights, biases, norms and tables."""
        return sum(op.weights + op.others for op in self.ops())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(op.macs for op in self.ops())

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters: matrices and kernels at their bits, all else in float32."""
        bits = sum(op.weights for op in self.ops()) * weight_bits(self.policy)
        return ceil(bits / 8) + FLOAT_BYTES * sum(op.others for op in self.ops())

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written by one image if every op goes to memory: the upper bound."""
        activations = sum(op.reads + op.writes for op in self.ops())
        return FLOAT_BYTES * activations + self.weight_bytes


@lru_cache(maxsize=1 << 14)
def _parse(key: str) -> SubBlock:
    head, _, rest = key.partition("?")
    kind, _, variant = head.partition("/")
    words = [part.partition("=") for part in rest.split("&")]
    given = {name: value for name, equals, value in words if equals}
    flags = tuple(name for name, equals, _ in words if not equals and name != "relative")
    try:
        width, side = int(given["width"]), int(given["grid"])
        tokens = int(given.get("tokens", side * side))
        numbers = {n: int(given[n]) for n in _NUMBERS if n in given}
        mixer = variant if kind == "mixer" else "pool" if "layout" in given else "softmax"
        mixer = "mbconv" if variant == "inverted" else mixer
        block = Block(
            mixer,
            mlp_hidden=int(given.get("mlp_hidden", 0)),
            **{n.name: n.parse(given[n.name]) for n in find(mixer).numbers if n.name in given},
        )
        known = policy_transforms()
        policy = Policy(**{name: known[name].read(given[name]) for name in known if name in given})
        place = Place(
            *(block, width, (side, side), int(given.get("prefix", 0)), tokens),
            int(given.get("kept", tokens)),
            relative="relative" in rest.split("&"),
            act=given["act"],
            registers=int(given.get("registers", 0)),
            routed=int(given.get("routed", 0)),
        )
        return SubBlock(kind, place, policy, given["norm"], variant, flags=flags, **numbers)
    except (KeyError, ValueError) as error:
        raise CostError(f"not the key of a sub-block: {key!r} ({error!r})") from error


_BETWEEN = ("stem", "mlp", "head")
_NUMBERS = ("inputs", "outputs", "patch_size", "pool_heads", "pool_hidden")


def weight_bits(policy: Policy) -> float:
    """Bits that one weight needs: what precision and other transforms leave of 32."""
    bits, known = 8.0 * FLOAT_BYTES, policy_transforms()
    for name, value in policy.changes().items():
        if count := known[name].bits:
            bits = count(bits, value)
    stored = [bits]
    for name, value in policy.others:
        if keep := known[name].kept:  # what is not zero, and a bit that says where it is
            stored.append(keep(LONG, value) / LONG * bits + 1 / known[name].run)
    return min(stored)


@dataclass(frozen=True)
class Workload:
    """The sub-blocks of a candidate in the order of execution, and their totals."""

    sub_blocks: tuple[SubBlock, ...]

    @cached_property
    def params(self) -> int:
        """Parameters of the network."""
        return sum(unit.params for unit in self.sub_blocks)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(unit.macs for unit in self.sub_blocks)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all parameters at their precision."""
        return sum(unit.weight_bytes for unit in self.sub_blocks)

    @cached_property
    def moved_bytes(self) -> int:
        """Bytes read and written by one image, at most."""
        return sum(unit.moved_bytes for unit in self.sub_blocks)


def workload(candidate: Candidate) -> Workload:
    """The workload of a candidate."""
    return Workload(tuple(block for _, block in walk(candidate)))


def walk(candidate: Candidate) -> Iterator[tuple[tuple[int, ...], SubBlock]]:
    """The sub-blocks of a candidate in order, each with its place.

    That is () of stem and head, (stage,) of a downsampling, (stage, block) of mixer and MLP.
    """
    a, compression = candidate.architecture, candidate.compression
    placed = places(a)
    yield (), stem_unit(a, placed[0][0], compression.stem)
    for i, (stage, policies) in enumerate(zip(placed, compression.stages, strict=True)):
        if i:
            yield (i,), downsample_unit(a, i, stage[0], policies.downsample)
        parts = zip(stage, policies.mixer, policies.mlp, strict=True)
        for j, (place, mixer, mlp) in enumerate(parts):
            yield (i, j), mixer_unit(a, place, mixer)
            if has_mlp(place.block):
                yield (i, j), mlp_unit(a, place, mlp)
    yield (), head_unit(a, placed[-1][-1], compression.head)


def has_mlp(block: Block) -> bool:
    """Whether an MLP follows the mixer."""
    return block.mlp_hidden > 0 and not find(block.mixer).is_mlp


def stem_unit(a: Architecture, first: Place, policy: Policy) -> SubBlock:
    """The stem that leads to the first block."""
    told = {
        "pos": a.pos_embed == "learned",
        "patch_pos": a.pos_embed == "patches",
        "norm": a.stem_norm,
        "pre_norm": a.pre_norm,
        "no_bias": not a.stem_bias,
    }
    return SubBlock(
        *("stem", _bare(first, a.act), at_run_time(policy), a.norm, a.stem),
        inputs=a.in_chans,
        patch_size=a.patch_size,
        flags=_names(told),
    )


def downsample_unit(a: Architecture, stage: int, first: Place, policy: Policy) -> SubBlock:
    """The downsampling that leads to the first block of a stage."""
    own, place = a.stages[stage], _bare(first, first.act)
    if own.downsample == "inverted":
        hidden, kernel, few = own.inner
        block = Block("mbconv", mlp_hidden=hidden, kernel_size=kernel, se_hidden=few)
        place = replace(place, block=block)
    return SubBlock(
        *("downsample", place, at_run_time(policy), a.norm, own.downsample),
        inputs=a.stages[stage - 1].width,
        flags=() if own.stride == 2 else ("stride_1",),
    )


def mixer_unit(a: Architecture, place: Place, policy: Policy) -> SubBlock:
    """The mixer of a block, with its token reduction."""
    drop = (a.token_reduction,) if place.kept != place.tokens else ()
    return SubBlock(
        *("mixer", _mixing(place), at_run_time(policy), a.norm, place.block.mixer),
        flags=(*(_branch(a) if find(place.block.mixer).residual else ()), *drop),
    )


def mlp_unit(a: Architecture, place: Place, policy: Policy) -> SubBlock:
    """The MLP of a block: linear layers on tokens, 1x1 convolutions on a grid."""
    grid = find(place.block.mixer).layout == "grid"
    variant = MLP_VARIANTS[a.mlp][grid]
    flags = _branch(a) + _names({"mlp_norm": a.mlp_norm, "no_bias": not a.mlp_bias})
    flags += (a.token_routing,) if place.routed else ()
    return SubBlock("mlp", _after(place), at_run_time(policy), a.norm, variant, flags=flags)


MLP_VARIANTS = {"plain": ("mlp", "conv"), "glu": ("glu", "glu_conv")}  # on tokens, on a grid


def head_unit(a: Architecture, last: Place, policy: Policy) -> SubBlock:
    """Last norm, pooling and classifier after the last block."""
    attends = a.global_pool == "map"
    place = _bare(_after(last), a.act)
    if a.head_hidden:
        place = replace(place, block=replace(place.block, mlp_hidden=a.head_hidden))
    unit = SubBlock(
        *("head", place, at_run_time(policy), a.norm, a.global_pool),
        outputs=a.num_classes,
        flags=() if a.final_norm == "tokens" else (a.final_norm,),
    )
    if not attends and not a.pool_registers:
        return unit
    return replace(
        unit,
        flags=(*unit.flags, *_names({"pool_registers": a.pool_registers})),
        pool_heads=a.pool_heads if attends else 0,
        pool_hidden=int(last.width * a.pool_mlp_ratio) if attends else 0,
    )


def _names(told: dict[str, bool]) -> tuple[str, ...]:
    return tuple(name for name, holds in told.items() if holds)


def _branch(a: Architecture) -> tuple[str, ...]:
    return _names({"scale": a.layer_scale, "post_norm": a.post_norm})


def at_run_time(policy: Policy) -> Policy:
    """Part of a policy that is left at run time: pruned numbers are already in the block."""
    return policy.only(lambda transform: transform.on != "numbers") if policy.others else policy


@lru_cache(maxsize=1 << 14)
def _bare(place: Place, act: str) -> Place:
    """The place without what stem, downsampling and head do not depend on."""
    layout = Block("pool" if find(place.block.mixer).layout == "grid" else "softmax")
    return Place(layout, place.width, place.grid, place.prefix, place.tokens, place.tokens,
                 act=act, registers=place.registers)  # fmt: skip


@lru_cache(maxsize=1 << 14)
def _mixing(place: Place) -> Place:
    """The place as the mixer sees it: the MLP does not matter unless it is one itself."""
    if find(place.block.mixer).is_mlp:
        return _plain(place)
    block = replace(place.block, mlp_hidden=0, mlp_capacity=1.0)
    return _plain(replace(place, block=block, routed=0))


def _plain(place: Place) -> Place:
    """The place without what takes no time: which tokens stand for a class, if none is dropped."""
    ranked = place.kept != place.tokens
    if place.norm_eps == NORM_EPS and (ranked or not place.registers) and not place.reparam:
        return place
    registers = place.registers if ranked else 0
    return replace(place, norm_eps=NORM_EPS, registers=registers, reparam=False)


@lru_cache(maxsize=1 << 14)
def _after(place: Place) -> Place:
    """The place as the MLP sees it: tokens are already dropped, the mixer does not matter."""
    mixer = "pool" if find(place.block.mixer).layout == "grid" else "softmax"
    block = Block(mixer, mlp_hidden=place.block.mlp_hidden)
    return Place(block, place.width, place.grid, place.prefix, place.kept, place.kept,
                 act=place.act, registers=place.registers, routed=place.routed)  # fmt: skip


@lru_cache(maxsize=1 << 16)
def _ops(unit: SubBlock) -> list[Op]:
    return count_ops(unit)


def count_ops(unit: SubBlock) -> list[Op]:
    """Count the operations of `SubBlock.ops` anew, for callers that need them once."""
    return transformed(_BY_KIND[unit.kind](unit), unit.policy)


def transformed(ops: list[Op], policy: Policy) -> list[Op]:
    """The operations that compute the same under a policy."""
    known = policy_transforms()
    for name, value in policy.others:
        if change := known[name].ops:
            ops = change(ops, value)
    return ops


def _stem_ops(unit: SubBlock) -> list[Op]:
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


def _downsample_ops(unit: SubBlock) -> list[Op]:
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
    if unit.variant == "inverted":
        return _inverted_ops(unit, stride)
    kernel = 1 if unit.variant == "pointwise" else 3
    layers = [
        o.conv(place.tokens, unit.inputs, place.width, kernel, stride, bias=False),
        o.norm("batch", place.tokens, place.width),
    ]
    return [*layers, o.elementwise(place.tokens * place.width)] if kernel == 1 else layers


def _inverted_ops(unit: SubBlock, stride: int) -> list[Op]:
    place, block = unit.place, unit.place.block
    hidden, positions = block.mlp_hidden or unit.inputs, stride**2 * place.tokens
    expanding = [
        o.conv(positions, unit.inputs, hidden, 1, bias=False),
        o.norm("batch", positions, hidden),
        o.elementwise(positions * hidden),
    ]
    depthwise = o.depthwise(place.tokens, hidden, block.kernel_size, bias=False)
    return [
        *(expanding if block.mlp_hidden else []),
        depthwise._replace(reads=positions * hidden),
        o.norm("batch", place.tokens, hidden),
        o.elementwise(place.tokens * hidden),
        *excited(place.tokens, hidden, block.se_hidden),
        o.conv(place.tokens, hidden, place.width, 1, bias=False),
        o.norm("batch", place.tokens, place.width),
    ]


def _mixer_ops(unit: SubBlock) -> list[Op]:
    place, traits = unit.place, find(unit.place.block.mixer)
    rows = place.prefix + place.tokens
    ops = [o.norm(unit.norm, rows, place.width)] if traits.pre_norm else []
    ops += traits.ops(place)
    if traits.residual:
        ops += _residual(unit, rows)
    if "evit" in unit.flags:
        ops.append(o.pool(place.block.num_heads * rows * rows, place.tokens))
        ops.append(o.matmul(1, 1, place.tokens, place.width))
        ops.append(o.matmul(1, 1, place.kept - 1, place.width))
    if "evit" in unit.flags or "random" in unit.flags:
        ops.append(o.elementwise((place.prefix + place.kept) * place.width))
    return ops


def _mlp_ops(unit: SubBlock) -> list[Op]:
    place, hidden = unit.place, unit.place.block.mlp_hidden
    rows, width = unit.fed_rows, place.width
    bias = "no_bias" not in unit.flags
    first, second = o.linear(rows, width, hidden, bias), o.linear(rows, hidden, width, bias)
    if unit.layout == "grid":  # 1x1 convolutions, which are not factored
        first = o.conv(rows, width, hidden, 1, bias=bias)
        second = o.conv(rows, hidden, width, 1, bias=bias)
    gated = unit.variant in MLP_VARIANTS["glu"]
    return [
        *_routing_ops(unit),
        o.norm(unit.norm, rows, width),
        *([first] * (1 + gated)),
        o.elementwise(rows * hidden),
        *([o.elementwise(rows * hidden, 2)] * gated),
        *([o.norm(unit.norm, rows, hidden)] if "mlp_norm" in unit.flags else []),
        second,
        *_residual(unit, rows),
    ]


def _routing_ops(unit: SubBlock) -> list[Op]:
    """Scores and ranks of all tokens, and what takes the chosen ones out and puts them back."""
    if not unit.is_routed:
        return []
    place, width = unit.place, unit.place.width
    rows, chosen = place.prefix + place.tokens, unit.fed_rows
    moves = [o.elementwise(chosen * width), o.elementwise(rows * width)]
    if "learned" not in unit.flags:
        return moves
    # The score is a layer, but of none of the policies: which token is chosen hangs on little.
    score = o.linear(rows, width, 1)
    score = score._replace(weights=0, others=score.weights + score.others)
    return [score, o.pool(place.tokens, place.routed), o.elementwise(chosen * width, 2), *moves]


def _residual(unit: SubBlock, rows: int) -> list[Op]:
    elements = rows * unit.place.width
    scale = [o.elementwise(elements, others=unit.place.width)] if "scale" in unit.flags else []
    return [*scale, o.elementwise(elements, 2)]


def _head_ops(unit: SubBlock) -> list[Op]:
    place = unit.place
    rows, width = place.prefix + place.tokens, place.width
    moved = "pooled" in unit.flags or "none" in unit.flags
    ops = [] if moved else [o.norm(unit.norm, rows, width)]
    pooled = rows if "pool_registers" in unit.flags else place.tokens
    if unit.variant in ("avg", "token_avg"):
        ops.append(o.pool(pooled * width, width))
    elif unit.variant == "map":
        ops += _attention_pool_ops(unit, pooled)
    heads = 2 if unit.variant == "distill" else 1
    if "pooled" in unit.flags:
        ops += [o.norm(unit.norm, heads, width)]
    features = 2 * width if unit.variant == "token_avg" else width
    if hidden := place.block.mlp_hidden:
        ops += [o.linear(1, width, hidden), o.elementwise(hidden)]
        features = hidden
    return ops + [o.linear(1, features, unit.outputs)] * (heads if unit.outputs else 0)


def _attention_pool_ops(unit: SubBlock, rows: int) -> list[Op]:
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
