"""Indexer: many candidates as unit numbers, fast enough for a search to predict everything.

A block at its place always gives the same units, so each is looked up by what a walk through
the candidate has at hand, as small integers: its mixer, its policies, its width, the tokens that
enter, and the network's own choices.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from ...spaces import Architecture, Block, Candidate, Policy
from ...spaces.architecture import halved
from ...spaces.exits import exits_of
from ...spaces.mixers import find
from ...spaces.places import place_of
from .sub_block import SubBlock
from .workload import (
    at_run_time,
    downsample_unit,
    exit_unit,
    has_mlp,
    head_unit,
    mixer_unit,
    mlp_unit,
    stem_unit,
)

MixerKey = tuple[int, int, int, int, int, int, str]
_around = attrgetter(
    *(f.name for f in fields(Architecture) if f.name not in ("stages", "norm_eps"))
)

MlpKey = tuple[int, float, int, int, int, int, str, str]


@contextmanager
def _uncollected() -> Generator[None]:
    """Stop garbage collection, which would look through all candidates again and again.

    Nothing that is made here refers back to itself, and everything new is to be kept.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Indexer:
    """Numbers every sub-block that occurs, and gives candidates as lists of these numbers.

    Args:
        number: gives a sub-block its number, the same for equal ones.
    """

    def __init__(self, number: Callable[[SubBlock], int]) -> None:
        self._number = number
        self._networks: dict[object, int] = {}
        self._policies: dict[Policy, int] = {}
        self._policy_ids: dict[Policy, int] = {}
        self._mixer_ids: dict[Block, int] = {}
        self._blocks: dict[Block, tuple[int, int, float, str]] = {}
        self._mixers: dict[MixerKey, tuple[int, int]] = {}
        self._mlps: dict[MlpKey, int] = {}
        self._others: dict[object, int] = {}

    def index(self, candidates: Sequence[Candidate]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Numbers of all units of all candidates in order, and where each candidate begins."""
        numbers: list[int] = []
        starts: list[int] = []
        with _uncollected():
            for candidate in candidates:
                starts.append(len(numbers))
                self._walk(candidate, numbers)
        return np.array(numbers, np.intp), np.array(starts, np.intp)

    def _walk(self, candidate: Candidate, numbers: list[int]) -> None:
        a, compression = candidate.architecture, candidate.compression
        network, policies, blocks = self._network(a), self._policies, self._blocks
        mixers, mlps = self._mixers, self._mlps
        side = a.grid
        tokens = before = 0  # what leaves, and what enters, the block that was met last
        numbers.append(self._stem(candidate, network))
        for i, (stage, bits) in enumerate(zip(a.stages, compression.stages, strict=True)):
            width, act = stage.width, stage.act or a.act
            side = halved(side, i > 0 and stage.stride == 2)
            tokens = side * side
            exits = exits_of(stage.exits)
            if i:
                numbers.append(self._downsample(candidate, i, network))
            for j, block in enumerate(stage.blocks):
                known = blocks.get(block)
                if known is None:
                    known = self._learn_block(block)
                mixer, hidden, capacity, layout = known
                policy = policies.get(bits.mixer[j])
                if policy is None:
                    policy = self._learn_policy(bits.mixer[j])
                here = (mixer, policy, width, side, tokens, network, act)
                pair = mixers.get(here)
                if pair is None:
                    place = place_of(a, block, width, side, tokens, act)
                    pair = self._number(mixer_unit(a, place, bits.mixer[j])), place.kept
                    mixers[here] = pair
                numbers.append(pair[0])
                before, tokens = tokens, pair[1]
                if hidden:
                    policy = policies.get(bits.mlp[j])
                    if policy is None:
                        policy = self._learn_policy(bits.mlp[j])
                    after = (hidden, capacity, policy, width, tokens, network, layout, act)
                    number = mlps.get(after)
                    if number is None:
                        place = place_of(a, block, width, side, before, act)
                        number = self._number(mlp_unit(a, place, bits.mlp[j]))
                        mlps[after] = number
                    numbers.append(number)
                if j + 1 in exits:
                    place = place_of(a, block, width, side, before, act)
                    numbers.append(self._number(exit_unit(a, place)))
        numbers.append(self._head(candidate, before, tokens, network))

    def _network(self, a: Architecture) -> int:
        """A number for everything that blocks share, and that stem and head depend on."""
        return self._networks.setdefault(_around(a), len(self._networks))

    def _learn_block(self, block: Block) -> tuple[int, int, float, str]:
        """Mixer, MLP and its capacity, and layout; blocks that mix alike share the first."""
        traits = find(block.mixer)
        rest = 0 if not traits.is_mlp else block.mlp_hidden
        mixer = replace(block, mlp_hidden=rest, mlp_capacity=1.0)
        number = self._mixer_ids.setdefault(mixer, len(self._mixer_ids))
        hidden = block.mlp_hidden if has_mlp(block) else 0
        entry = number, hidden, block.mlp_capacity, traits.layout
        self._blocks[block] = entry
        return entry

    def _learn_policy(self, policy: Policy) -> int:
        number = self._policy_ids.setdefault(at_run_time(policy), len(self._policy_ids))
        self._policies[policy] = number
        return number

    def _stem(self, candidate: Candidate, network: int) -> int:
        a, policy = candidate.architecture, candidate.compression.stem
        first = a.stages[0]
        key = ("stem", network, policy, first.width, first.blocks[0].mixer)
        if key not in self._others:
            place = place_of(a, first.blocks[0], first.width, a.grid, a.grid**2, a.act)
            self._others[key] = self._number(stem_unit(a, place, policy))
        return self._others[key]

    def _downsample(self, candidate: Candidate, i: int, network: int) -> int:
        a, policy = candidate.architecture, candidate.compression.stages[i].downsample
        stage, before = a.stages[i], a.stages[i - 1].width
        inner = stage.downsample, stage.stride, *stage.inner, stage.downsample_head_dim
        side, act, entered = a.side(i), a.act_of(i), a.side(i - 1)
        around = side, entered, act, network, policy, before
        key = (*around, stage.width, *inner, stage.blocks[0].mixer)
        if key not in self._others:
            place = place_of(a, stage.blocks[0], stage.width, side, side * side, act)
            self._others[key] = self._number(downsample_unit(a, i, place, policy))
        return self._others[key]

    def _head(self, candidate: Candidate, before: int, tokens: int, network: int) -> int:
        a, policy = candidate.architecture, candidate.compression.head
        last = a.stages[-1]
        side = a.side(len(a.stages) - 1)
        key = (tokens, network, policy, last.width, side, last.blocks[-1].mixer)
        if key not in self._others:
            place = place_of(a, last.blocks[-1], last.width, side, before, a.act)
            self._others[key] = self._number(head_unit(a, place, policy))
        return self._others[key]
