"""Vectorized: many units of one structure as a single unit whose numbers are arrays.

A search meets a new unit with nearly every candidate. What is counted of one, its operations,
terms and bytes, is arithmetic on its numbers, so that it counts thousands at once where these are
arrays; all that decides which operations there are is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np

from ...spaces.block import Block, Numbers
from ...spaces.mixers import find
from .unit import Unit, nodes_of

_PLACE = ("width", "tokens", "kept", "routed", "mixed")
_free = attrgetter(*(f"block.place.{name}" for name in _PLACE), "block.place.block.mlp_hidden")
_structure = attrgetter(
    *("recipe", "block.kind", "block.variant", "block.norm", "block.flags", "block.policy"),
    *(f"block.place.{name}" for name in ("grid", "prefix", "relative", "act")),
    "block.place.block.mixer",
)


def alike(units: Sequence[Unit]) -> Iterator[tuple[list[int], Unit]]:
    """Indices of units that are alike, and one unit that stands for them.

    Mixers and MLPs, of which there are most, come together; others one by one.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, unit in enumerate(units):
        if unit.block.kind in ("mixer", "mlp"):
            groups.setdefault(_structure_of(unit), []).append(index)
        else:
            yield [index], unit
    for indices in groups.values():
        yield indices, _together([units[index] for index in indices])


def _structure_of(unit: Unit) -> tuple[Any, ...]:
    block = unit.block.place.block
    names, _, rest = _split(block.mixer, block.numbers)
    return *_structure(unit), names, rest, nodes_of(unit.block), block.mlp_hidden > 0


@lru_cache(maxsize=1 << 14)
def _split(mixer: str, numbers: Numbers) -> tuple[tuple[str, ...], tuple[Any, ...], Numbers]:
    """Names and values of the numbers that may be arrays, and the numbers that may not."""
    arithmetic = {number.name for number in find(mixer).numbers if number.arithmetic}
    free = [pair for pair in numbers if pair[0] in arithmetic]
    rest = tuple(pair for pair in numbers if pair[0] not in arithmetic)
    return tuple(name for name, _ in free), tuple(value for _, value in free), rest


def _together(units: Sequence[Unit]) -> Unit:
    first = units[0].block
    blocks = [unit.block.place.block for unit in units]
    names, _, rest = _split(blocks[0].mixer, blocks[0].numbers)
    *place, mlp_hidden = np.array([_free(unit) for unit in units]).T
    own = np.array([_split(block.mixer, block.numbers)[1] for block in blocks]).T
    block = Block(
        blocks[0].mixer,
        mlp_hidden=mlp_hidden,
        numbers=tuple(sorted((*rest, *zip(names, own, strict=True)))),
    )
    shapes: dict[str, Any] = dict(zip(_PLACE, place, strict=True))
    joined = Unit(
        replace(first, place=replace(first.place, block=block, **shapes)), units[0].recipe
    )
    joined.__dict__["nodes"] = nodes_of(first)  # the same for all
    return joined
