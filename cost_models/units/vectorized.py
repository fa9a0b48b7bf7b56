"""Columns: many units of one structure as a single unit whose numbers are arrays.

A search meets a new unit with nearly every candidate. What is counted of one, its operations,
terms and bytes, is arithmetic on its numbers, so that it counts thousands at once where these are
arrays; all that decides which operations there are is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np

from ...spaces import Block
from .unit import Unit

_BLOCK = ("num_heads", "head_dim", "kv_heads", "mlp_hidden")
_PLACE = ("width", "tokens", "kept")
_FREE = (*_BLOCK, "token_keep")  # kept tokens are counted in the place
_numbers = attrgetter(
    *(f"block.place.{name}" for name in _PLACE), *(f"block.place.block.{name}" for name in _BLOCK)
)
_structure = attrgetter(
    *("recipe", "block.kind", "block.variant", "block.norm", "block.flags", "block.policy"),
    *(f"block.place.{name}" for name in ("grid", "prefix", "relative", "act")),
    *(f"block.place.block.{field}" for field in Block.__dataclass_fields__ if field not in _FREE),
)


def alike(units: Sequence[Unit]) -> Iterator[tuple[list[int], Unit]]:
    """Places in a list and a unit that stands for those there.

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
    shared = block.kv_heads > 0, block.kv_heads < block.num_heads
    return *_structure(unit), *shared, block.mlp_hidden > 0


def _together(units: Sequence[Unit]) -> Unit:
    first = units[0].block
    columns = np.array([_numbers(unit) for unit in units]).T
    place: dict[str, Any] = dict(zip(_PLACE, columns[: len(_PLACE)], strict=True))
    block: dict[str, Any] = dict(zip(_BLOCK, columns[len(_PLACE) :], strict=True))
    inner = replace(first.place.block, **block)
    return Unit(replace(first, place=replace(first.place, block=inner, **place)), units[0].recipe)
