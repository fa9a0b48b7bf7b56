"""Stratified pairs: candidates that cover a space evenly, in pairs that differ along one axis.

An axis is a field of the space's choices, such as `mixer` or `width`, in all blocks at once. The
members of a pair differ in it wherever rules allow, and agree in everything else.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import islice

from ...cost_models import workload
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import SpaceError
from ..scoring.strata import POOL, van_der_corput

TRIES = 20  # bases tried for a pair


@dataclass(frozen=True, slots=True)
class Pair:
    """Two candidates that differ along one axis.

    Attributes:
        axis: name of the field.
        first: a candidate.
        second: the same with another value of the field.
    """

    axis: str
    first: Candidate
    second: Candidate


def stratified_pairs(space: SearchSpace, n: int, seed: int) -> list[Pair]:
    """Draw `n` pairs of different candidates; the pairs of a smaller `n` come first.

    Sizes follow the van der Corput sequence over the ranked MACs of random draws, axes take
    turns, and the values of a pair are drawn at random. Choices that only one of the pair has,
    such as those of blocks that the other lacks, have their largest value.

    Raises:
        SpaceError: the space has too few candidates.
    """
    rng = random.Random(seed)
    pool = sorted(space.sample(POOL, seed), key=lambda candidate: workload(candidate).macs)
    used = dict.fromkeys(sorted({axis_of(choice.name) for choice in space.parameters}), 0)
    pairs: list[Pair] = []
    taken: set[str] = set()
    for stratum in islice(van_der_corput(), n):
        pair = _fresh_pair(space, pool[int(stratum * POOL)], used, taken, rng)
        if pair is None:
            raise SpaceError(
                f"space {space.name!r}: {2 * n} candidates in pairs were asked for, only "
                f"{2 * len(pairs)} were found"
            )
        pairs.append(pair)
        used[pair.axis] += 1
        taken |= {pair.first.key, pair.second.key}
    return pairs


def axis_of(name: str) -> str:
    """The field of a choice, whatever its stage and block.

    >>> axis_of("stages.0.blocks.3.mixer")
    'mixer'
    """
    return name.rpartition(".")[2]


def _fresh_pair(
    space: SearchSpace,
    base: Candidate,
    used: Mapping[str, int],
    taken: Set[str],
    rng: random.Random,
) -> Pair | None:
    """Draw a pair around a candidate, or random ones, along the least used axis."""
    for _ in range(TRIES):
        for axis in sorted(used, key=used.__getitem__):
            pair = _pair(space, base, axis, rng)
            if pair and not {pair.first.key, pair.second.key} & taken:
                return pair
        base = space.draw(rng)
    return None


def _pair(space: SearchSpace, base: Candidate, axis: str, rng: random.Random) -> Pair | None:
    """Draw two variants of a candidate along an axis; None if they agree or differ elsewhere."""
    choices = [choice for choice in space.parameters if axis_of(choice.name) == axis]
    values = [v for v in choices[0].values if all(v in choice for choice in choices)]
    if len(values) < 2:
        return None
    start = space.assignment(base)
    first, second = (
        space.candidate(start | {choice.name: value for choice in choices})
        for value in rng.sample(values, 2)
    )
    if first == second:
        return None
    a, b = space.assignment(first), space.assignment(second)
    alike = all(a[name] == b[name] for name in a.keys() & b.keys() if axis_of(name) != axis)
    return Pair(axis, first, second) if alike else None
