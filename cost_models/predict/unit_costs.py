"""UnitCosts: numbers of every unit that has occurred, as arrays that grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...spaces import Policy
from ..units.precision_recipes import Book, find_recipe, kernel_recipe, packs_zeros, recipe_for
from ..units.sub_block import SubBlock
from ..units.unit import Unit, unit_of
from ..units.vectorized import alike
from ..units.zeros import saved_bytes, zeros_of
from .regressor import Regressor

Array = NDArray[np.float64]
COLUMNS = ("ms", "sd", "inside", "weight_mb", "graph_mb", "peak_mb", "loaded_mb", "kind")
DENSE = Policy()
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
        self._packs = packs_zeros(runtime)
        self._numbers: dict[tuple[SubBlock, str, Policy], int] = {}
        self._waiting: list[tuple[Unit, Policy]] = []
        self._rows: Array = np.zeros((0, len(COLUMNS)))

    def number(self, block: SubBlock, recipes: Book | None = None) -> int:
        """The number of a sub-block, the same for equal work.

        Args:
            block: the sub-block.
            recipes: that it is made with, where they are not the usual ones.
        """
        unit = unit_of(block, recipe_for(block, recipes or self._recipes))
        zeros = zeros_of(block.policy) if self._packs else DENSE
        number = self._numbers.setdefault((unit.block, unit.recipe, zeros), len(self._numbers))
        if number == len(self._rows) + len(self._waiting):
            self._waiting.append((unit, zeros))
        return number

    def rows(self) -> Array:
        """(units, columns) of all numbers given so far."""
        if self._waiting:
            rows = self._predict([unit for unit, _ in self._waiting])
            rows[:, COLUMNS.index("weight_mb")] -= [_saved_mb(u, z) for u, z in self._waiting]
            self._rows, self._waiting = np.vstack([self._rows, rows]), []
        return self._rows

    def _predict(self, units: Sequence[Unit]) -> Array:
        table = np.zeros((len(units), len(COLUMNS)))
        for indices, stored in alike(units):
            run = stored.run_as(kernel_recipe(stored.recipe, self._runtime))
            known = self._latency.get(run.group)
            regressor = known or self._nearest(run.group)
            guess = regressor.predict_columns(run.terms, run.numbers, len(indices))
            kind = kind_of(run.group)
            columns = (
                guess.ms,
                guess.sd if known else UNKNOWN_SD,
                guess.inside if known else 0.0,
                stored.weight_bytes / 1e6,
                self._graph_bytes(stored) / 1e6,
                run.peak_bytes / 1e6,
                run.weight_bytes / 1e6,
                self.kinds.index(kind) if kind in self.kinds else -1,
            )
            for column, values in enumerate(columns):
                table[indices, column] = values
        return table

    def _nearest(self, group: str) -> Regressor:
        """Substitute for a group that was not measured: its kind with another variant or recipe."""
        kind, _, recipe = group.partition("@")
        part = kind.partition("/")[0]
        ranked = sorted(
            self._latency,
            key=lambda g: (not g.startswith(f"{kind}@"), not g.startswith(part), recipe not in g),
        )
        return self._latency[ranked[0]]


def _saved_mb(unit: Unit, zeros: Policy) -> float:
    """Megabytes that zeros save in the file of a unit."""
    recipe = find_recipe(unit.recipe)
    if not zeros.others:
        return 0.0
    ops = [op for op in unit.ops if op.kind == "conv" or recipe.layout != "blocks"]
    return saved_bytes(ops, recipe.weights, zeros) / 1e6


def kind_of(group: str) -> str:
    """The part of a group that has a correction factor of its own.

    Stem, downsampling and head occur once or twice a network, where nothing could tell their
    factor from a constant.

    >>> kind_of("mixer/softmax@float"), kind_of("stem/patch@static8")
    ('mixer/softmax@float', '')
    """
    return group if group.startswith(("mixer/", "mlp/")) else ""
