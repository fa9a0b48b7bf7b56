"""Exits: blocks after which a head may answer, so that easy images run through fewer of them.

Exits cut a network into parts that hand over: each runs some blocks and ends in a head, and the
next one is run only where that head is not sure (BranchyNet, Teerapittayanon et al., ICPR 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise

from .architecture import Architecture

EXPECTED = 0.5  # share of the images at an exit that is expected to leave, until it is measured
NONE = "none"


@cache
def exits_of(text: str) -> tuple[int, ...]:
    """Blocks of a stage after which a head may answer.

    >>> exits_of("4,8"), exits_of("none")
    ((4, 8), ())
    """
    return tuple(int(part) for part in text.split(",") if part.isdecimal())


def is_spelled(text: str) -> bool:
    """Whether a text is "none", or the one spelling of exits: ascending whole numbers from 1 on."""
    found = exits_of(text)
    rises = all(a < b for a, b in pairwise((0, *found)))
    return text == NONE or (rises and len(found) > 0 and text == ",".join(map(str, found)))


def are_inside(text: str, depth: int, stage: int, stages: int) -> bool:
    """Whether blocks or a downsampling follow every exit of a stage."""
    last = max(exits_of(text), default=0)
    return last < depth or (last == depth and stage < stages - 1)


def exits_in(architecture: Architecture) -> Iterator[tuple[int, int]]:
    """Stage, and blocks of it before the exit, of every exit in order."""
    for i, stage in enumerate(architecture.stages):
        for blocks in exits_of(stage.exits):
            yield i, blocks


def has_exits(architecture: Architecture) -> bool:
    """Whether a network has exits."""
    return any(stage.exits != NONE for stage in architecture.stages)


def blocks_before(architecture: Architecture) -> tuple[int, ...]:
    """Blocks of the whole network that run before each exit."""
    depths = [len(stage.blocks) for stage in architecture.stages]
    return tuple(sum(depths[:stage]) + blocks for stage, blocks in exits_in(architecture))


def without_exits(architecture: Architecture) -> Architecture:
    """The same network with its last head alone."""
    stages = tuple(replace(stage, exits=NONE) for stage in architecture.stages)
    return replace(architecture, stages=stages)


def reached(leaving: tuple[float, ...]) -> list[float]:
    """Share of all images that each part runs.

    Args:
        leaving: of the images at each exit, the share that leaves there.

    >>> reached((0.5, 0.5))
    [1.0, 0.5, 0.25]
    """
    shares = [1.0]
    for share in leaving:
        shares.append(shares[-1] * (1 - share))
    return shares
