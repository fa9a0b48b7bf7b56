"""Selection: the sub-blocks of a space to measure next, so that its networks are predicted best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import numpy as np

from ...spaces import Candidate
from ...spaces.errors import CostError
from ..predict.regressor import Regressor
from ..units.indexer import Indexer
from ..units.precision_recipes import Book, group_of, kernel_recipe, ranked, recipe_for
from ..units.sub_block import SubBlock
from ..units.unit import Unit, unit_of

CLEARLY = 0.1  # of the logarithm: a tenth faster, twice what processes differ by


def occurring(candidates: Sequence[Candidate]) -> Counter[SubBlock]:
    """Every sub-block of some candidates, and how often it occurs."""
    numbers: dict[SubBlock, int] = {}
    index, _ = Indexer(lambda block: numbers.setdefault(block, len(numbers))).index(candidates)
    counts = np.bincount(index, minlength=len(numbers))
    return Counter(dict(zip(numbers, counts.tolist(), strict=True)))


def trials(
    counts: Counter[SubBlock], recipes: Sequence[str], each: int = 2
) -> dict[str, list[Unit]]:
    """Typical sub-blocks of each group that has a choice, in every recipe that serves it.

    Returns:
        group -> units; those of one sub-block follow each other.
    """
    typical: dict[str, dict[Unit, SubBlock]] = {}
    for block, count in sorted(
        counts.items(), key=lambda item: (-item[1] * item[0].macs, item[0].key)
    ):
        chosen = typical.setdefault(group_of(block), {})
        if len(chosen) < each and count:
            # Sub-blocks that differ in zeros alone, or in their bits, are measured as one unit.
            chosen.setdefault(unit_of(block, ranked(block, recipes)[0]), block)
    return {
        group: [unit_of(b, name) for b in blocks.values() for name in ranked(b, recipes)]
        for group, blocks in typical.items()
    }


def fastest(units: Sequence[Unit], level: Mapping[str, float]) -> str:
    """The first recipe, unless another one is clearly faster on the sub-blocks that were tried.

    The first of a device's recipes is what an export without a cost model uses, and a tie that
    noise decides would make two calibrations of one machine disagree.

    Args:
        units: sub-blocks in several recipes.
        level: key of a unit -> latency; absent where the runtime refused it.

    Raises:
        CostError: it refused every recipe.
    """
    logs: dict[str, list[float]] = {}
    tried = len({unit.block for unit in units})
    for unit in units:
        if unit.key in level:
            logs.setdefault(unit.recipe, []).append(float(np.log(level[unit.key])))
    whole = {name: values for name, values in logs.items() if len(values) == tried}
    if not whole:
        raise CostError(f"the runtime takes no recipe of {units[0].block.key}")
    mean = {name: float(np.mean(values)) for name, values in whole.items()}
    first, best = next(iter(mean)), min(mean, key=mean.__getitem__)
    return best if mean[best] < mean[first] - CLEARLY else first


def choose(
    counts: Counter[SubBlock],
    recipes: Book,
    known: Collection[str],
    latency: Mapping[str, Regressor],
    count: int,
    rng: np.random.Generator,
    runtime: str,
) -> list[Unit]:
    """Units whose measurement would teach most.

    The gain of one is its share of the space's time times how unsure its prediction is; a random
    draw in proportion to it (Efraimidis and Spirakis 2006) keeps neighbors apart.

    Args:
        counts: sub-blocks and how often they occur.
        recipes: group -> recipe.
        known: keys of units that are measured.
        latency: group -> regressor, for groups that have one.
        count: how many at most.
        rng: of the draw.
        runtime: of the device.
    """
    share: dict[str, float] = {}
    units: dict[str, Unit] = {}
    for block, often in counts.items():
        unit = _unit(block, kernel_recipe(recipe_for(block, recipes), runtime))
        if unit.key not in known:
            units[unit.key] = unit
            share[unit.key] = share.get(unit.key, 0.0) + often
    groups: dict[str, list[str]] = {}
    for key, unit in units.items():
        groups.setdefault(unit.group, []).append(key)
    gain: dict[str, float] = {}
    for group, keys in groups.items():
        terms = [units[key].terms for key in keys]
        if group in latency:
            guess = latency[group].predict(terms, [units[key].numbers for key in keys])
            gains = guess.ms * guess.sd
        else:
            gains = np.array([0.02 + item.get("linear_macs", 0.0) / 100 for item in terms])
        for key, value in zip(keys, gains, strict=True):
            gain[key] = share[key] * float(value)
    order = sorted(gain, key=lambda key: -np.log(rng.random()) / max(gain[key], 1e-12))
    return [units[key] for key in order[:count]]


@lru_cache(maxsize=1 << 16)
def _unit(block: SubBlock, recipe: str) -> Unit:
    """The unit of a sub-block and recipe; kept, so that its terms are counted once."""
    return unit_of(block, recipe)
