"""Costs: what is known of every unit that has been met, as arrays that grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .precision import Book, kernel_recipe, recipe_for
from .regress import Regressor
from .units import Unit, unit_of
from .workload import SubBlock

Array = NDArray[np.float64]
COLUMNS = ("ms", "sd", "inside", "weight_mb", "graph_mb", "peak_mb", "loaded_mb", "kind")
UNKNOWN_SD = 0.5  # of a group that was never measured


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
        self._known: dict[SubBlock, int] = {}
        self._waiting: list[tuple[Unit, Unit]] = []
        self._rows: Array = np.zeros((0, len(COLUMNS)))

    def number(self, block: SubBlock) -> int:
        """The number of a sub-block."""
        number = self._known.get(block)
        if number is None:
            stored = unit_of(block, recipe_for(block, self._recipes))
            number = self._numbers.setdefault((stored.block, stored.recipe), len(self._numbers))
            self._known[block] = number
            if number == len(self._rows) + len(self._waiting):
                run = stored.run_as(kernel_recipe(stored.recipe, self._runtime))
                self._waiting.append((stored, run))
        return number

    def rows(self) -> Array:
        """(units, columns) of all numbers given so far."""
        if self._waiting:
            self._rows = np.vstack([self._rows, self._predict(self._waiting)])
            self._waiting = []
        return self._rows

    def _predict(self, units: Sequence[tuple[Unit, Unit]]) -> Array:
        found = np.zeros((len(units), len(COLUMNS)))
        groups: dict[str, list[int]] = {}
        for index, (_, run) in enumerate(units):
            groups.setdefault(run.group, []).append(index)
        for group, indices in groups.items():
            runs = [units[i][1] for i in indices]
            known = self._latency.get(group)
            regressor = known or self._nearest(group)
            guess = regressor.predict([u.terms for u in runs], [u.numbers for u in runs])
            found[indices, 0] = guess.ms
            found[indices, 1] = guess.sd if known else UNKNOWN_SD
            found[indices, 2] = guess.inside if known else 0.0
            kind = kind_of(group)
            found[indices, 7] = self.kinds.index(kind) if kind in self.kinds else -1
        for index, (stored, run) in enumerate(units):
            found[index, 3] = stored.weight_bytes / 1e6
            found[index, 4] = self._graph_bytes(stored) / 1e6
            found[index, 5] = run.peak_bytes / 1e6
            found[index, 6] = run.weight_bytes / 1e6
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
