"""Costs: what is known of every unit that has been met, as arrays that grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .precision import Book, kernel_recipe, recipe_for
from .regress import Regressor
from .units import Unit, unit_of
from .workload import SubBlock

Array = NDArray[np.float64]
COLUMNS = ("ms", "sd", "inside", "weight_mb", "graph_mb", "peak_mb", "loaded_mb", "kind")
UNKNOWN_SD = 0.5  # of a group that was never measured


class _Facts(NamedTuple):
    """What a unit's costs are predicted from: plain values, as a search meets many units."""

    group: str
    terms: dict[str, float]
    numbers: dict[str, float]
    bytes: tuple[float, float, float, float]  # stored weights, graph, peak, weights as loaded


class UnitCosts:
    """Numbers units and predicts each once.

    Args:
        recipes: group -> recipe, or recipes best first.
        latency: group of units -> its regressor.
        graph_bytes: unit -> bytes of a graph beside its weights.
        kinds: names of the groups with a correction factor of their own.
        runtime: of the device.
    """

    def __init__(
        self,
        recipes: Book | Sequence[str],
        latency: Mapping[str, Regressor],
        graph_bytes: Callable[[Unit], float],
        kinds: Sequence[str],
        runtime: str,
    ) -> None:
        self._recipes, self._latency, self._graph_bytes = recipes, latency, graph_bytes
        self.kinds, self._runtime = list(kinds), runtime
        self._numbers: dict[tuple[SubBlock, str], int] = {}
        self._waiting: list[_Facts] = []
        self._rows: Array = np.zeros((0, len(COLUMNS)))

    def number(self, block: SubBlock, recipes: Book | None = None) -> int:
        """The number of a sub-block, the same for equal work.

        Args:
            block: the sub-block.
            recipes: that it is made with, where they are not the usual ones.
        """
        unit = unit_of(block, recipe_for(block, recipes or self._recipes))
        number = self._numbers.setdefault((unit.block, unit.recipe), len(self._numbers))
        if number == len(self._rows) + len(self._waiting):
            self._waiting.append(self._facts(unit))
        return number

    def rows(self) -> Array:
        """(units, columns) of all numbers given so far."""
        if self._waiting:
            self._rows = np.vstack([self._rows, self._predict(self._waiting)])
            self._waiting = []
        return self._rows

    def _facts(self, stored: Unit) -> _Facts:
        run = stored.run_as(kernel_recipe(stored.recipe, self._runtime))
        sizes = (
            stored.weight_bytes,
            self._graph_bytes(stored),
            run.peak_bytes,
            run.weight_bytes,
        )
        return _Facts(run.group, run.terms, run.numbers, sizes)

    def _predict(self, units: Sequence[_Facts]) -> Array:
        found = np.zeros((len(units), len(COLUMNS)))
        groups: dict[str, list[int]] = {}
        for index, unit in enumerate(units):
            groups.setdefault(unit.group, []).append(index)
        for group, indices in groups.items():
            known = self._latency.get(group)
            regressor = known or self._nearest(group)
            guess = regressor.predict(
                [units[i].terms for i in indices], [units[i].numbers for i in indices]
            )
            found[indices, 0] = guess.ms
            found[indices, 1] = guess.sd if known else UNKNOWN_SD
            found[indices, 2] = guess.inside if known else 0.0
            kind = kind_of(group)
            found[indices, 7] = self.kinds.index(kind) if kind in self.kinds else -1
        found[:, 3:7] = np.array([unit.bytes for unit in units]) / 1e6
        return found

    def _nearest(self, group: str) -> Regressor:
        """For a group that was not measured: its kind with another variant or recipe."""
        kind, _, recipe = group.partition("@")
        part = kind.partition("/")[0]
        ranked = sorted(
            self._latency,
            key=lambda g: (not g.startswith(f"{kind}@"), not g.startswith(part), recipe not in g),
        )
        return self._latency[ranked[0]]


def kind_of(group: str) -> str:
    """The part of a group that has a correction factor of its own.

    Stem, downsampling and head occur once or twice a network, where nothing could tell their
    factor from a constant.

    >>> kind_of("mixer/softmax@float"), kind_of("stem/patch@static8")
    ('mixer/softmax@float', '')
    """
    return group if group.startswith(("mixer/", "mlp/")) else ""
