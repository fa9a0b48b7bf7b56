"""Workload: a candidate as the ordered residual sub-blocks that a device will run.

Everything here is exact arithmetic on the candidate; nothing imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ...spaces import Architecture, Block, Candidate, Place, Policy
from ...spaces.architecture import INVERTED, SE_GATES
from ...spaces.exits import exits_of
from ...spaces.mixers import find
from ...spaces.mixers.levit import halving
from ...spaces.places import places
from .signature import MLP_VARIANTS, route_flag
from .sub_block import SubBlock

NORMLESS = "layer"  # what the key of a head without a norm says, whatever the network's is
NORM_EPS = 1e-6  # of all norms that are measured; it takes no time
SE_GATE = SE_GATES[0]  # likewise of squeeze-and-excitation: one number a channel


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

    That is () of stem and head, (stage,) of a downsampling, (stage, block) of mixer and MLP, and of
    the head of an exit after that block.
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
            if j + 1 in exits_of(a.stages[i].exits):
                yield (i, j), exit_unit(a, place)
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
    if own.downsample in INVERTED:
        hidden, kernel, few = own.inner
        block = Block("mbconv", mlp_hidden=hidden, kernel_size=kernel, se_hidden=few)
        place = replace(place, block=block)
    elif own.downsample == "attention":
        block = halving(a.stages[stage - 1].width, own.downsample_head_dim)
        place = replace(place, block=block, tokens=a.side(stage - 1) ** 2)
    halves, odd = own.stride == 2, a.side(stage - 1) % 2 == 1
    told = {"stride_1": not halves, "odd": halves and odd and own.downsample in INVERTED}
    return SubBlock(
        *("downsample", place, at_run_time(policy), a.norm, own.downsample),
        inputs=a.stages[stage - 1].width,
        flags=_names(told),
    )


def mixer_unit(a: Architecture, place: Place, policy: Policy) -> SubBlock:
    """The mixer of a block, with its token reduction."""
    chosen = (a.token_reduction,) if place.kept != place.tokens else ()
    chosen += (route_flag("mixer", a.token_routing),) if place.mixed else ()
    return SubBlock(
        *("mixer", _mixing(place), at_run_time(policy), a.norm, place.block.mixer),
        flags=(*(_branch(a) if find(place.block.mixer).residual else ()), *chosen),
    )


def mlp_unit(a: Architecture, place: Place, policy: Policy) -> SubBlock:
    """The MLP of a block: linear layers on tokens, 1x1 convolutions on a grid."""
    grid = find(place.block.mixer).layout == "grid"
    variant = MLP_VARIANTS[a.mlp][grid]
    flags = _branch(a) + _names({"mlp_norm": a.mlp_norm, "no_bias": not a.mlp_bias})
    flags += (route_flag("mlp", a.token_routing),) if place.routed else ()
    return SubBlock("mlp", _after(place), at_run_time(policy), a.norm, variant, flags=flags)


def head_unit(a: Architecture, last: Place, policy: Policy) -> SubBlock:
    """Last norm, pooling and classifier after the last block."""
    attends = a.global_pool == "map"
    place = _bare(_after(last), a.act)
    if a.head_hidden:
        place = replace(place, block=replace(place.block, mlp_hidden=a.head_hidden))
    where = () if a.final_norm == "tokens" else (a.final_norm,)
    told = {"pool_registers": a.pool_registers, "head_norm": a.head_norm}
    return SubBlock(
        *("head", place, at_run_time(policy), a.norm, a.global_pool),
        outputs=a.num_classes,
        flags=(*where, *_names(told)),
        pool_heads=a.pool_heads if attends else 0,
        pool_hidden=int(last.width * a.pool_mlp_ratio) if attends else 0,
    )


def exit_unit(a: Architecture, place: Place) -> SubBlock:
    """The head of an exit after a block: pooling and a classifier in float32, without a norm."""
    variant = "token" if a.class_tokens else "avg"
    return SubBlock(
        *("head", _bare(_after(place), a.act), Policy(), NORMLESS, variant),
        outputs=a.num_classes,
        flags=("none",),
    )


def is_exit(candidate: Candidate) -> list[bool]:
    """Of each sub-block of a candidate in order, whether it is the head of an exit."""
    heads = [block.kind == "head" for _, block in walk(candidate)]
    return [*heads[:-1], False]


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
    block = replace(place.block, mlp_capacity=1.0, mixer_capacity=1.0)
    if not find(block.mixer).is_mlp:
        block = replace(block, mlp_hidden=0)
    return _plain(replace(place, block=block, routed=0))


def _plain(place: Place) -> Place:
    """The place without what takes no time: which tokens stand for a class, if none is dropped."""
    registers = place.registers if place.kept != place.tokens else 0
    timed = {"norm_eps": NORM_EPS, "registers": registers, "reparam": False, "se_gate": SE_GATE}
    if all(getattr(place, name) == value for name, value in timed.items()):
        return place
    return replace(place, **timed)


@lru_cache(maxsize=1 << 14)
def _after(place: Place) -> Place:
    """The place as the MLP sees it: tokens are already dropped, the mixer does not matter."""
    mixer = "pool" if find(place.block.mixer).layout == "grid" else "softmax"
    block = Block(mixer, mlp_hidden=place.block.mlp_hidden)
    return Place(block, place.width, place.grid, place.prefix, place.kept, place.kept,
                 act=place.act, registers=place.registers, routed=place.routed)  # fmt: skip
