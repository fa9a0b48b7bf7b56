"""Parts: the units that candidates are made of, and sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .correction import Sums
from .unit_costs import COLUMNS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Leaving:
    """How images leave the networks of a batch of candidates, some of which have exits.

    Attributes:
        reach: (parts,) share of the images that get to each unit.
        runs: (candidates,) files that an image runs through on average.
        files: (candidates,) all of them.
    """

    reach: Array
    runs: Array
    files: Array


@dataclass(frozen=True)
class Parts:
    """Units of a batch of candidates, in the order of execution.

    Attributes:
        rows: (units, columns) numbers of every unit that has occurred.
        index: (parts,) row of each part's unit, candidate by candidate.
        starts: (candidates,) where each candidate begins.
        leaving: how images leave by exits; None where there are none.
    """

    rows: Array
    index: NDArray[np.intp]
    starts: NDArray[np.intp]
    leaving: Leaving | None = None

    def __getitem__(self, name: str) -> Array:
        """(parts,) values of a column of `unit_costs.COLUMNS`."""
        return self.rows[self.index, COLUMNS.index(name)]

    def total(self, values: Array) -> Array:
        """(candidates,) sums of values of parts."""
        return np.add.reduceat(values, self.starts)

    def largest(self, name: str) -> Array:
        """(candidates,) largest value of a column."""
        return np.maximum.reduceat(self[name], self.starts)

    def and_others(self, rows: Array) -> Parts:
        """The same with units at the end of the last candidate, given by what is known of them."""
        index = np.arange(len(self.rows), len(self.rows) + len(rows))
        return Parts(np.vstack([self.rows, rows]), np.append(self.index, index), self.starts)

    @property
    def counts(self) -> NDArray[np.intp]:
        """(candidates,) number of parts."""
        return np.diff(np.append(self.starts, len(self.index)))

    @property
    def storage(self) -> tuple[Array, Array, Array, Array]:
        """Inputs of a memory model: weights as loaded and as stored, live activations, parts."""
        loaded, stored = self.total(self["loaded_mb"]), self.total(self["weight_mb"])
        return loaded, stored, self.largest("peak_mb"), self.counts.astype(float)

    @property
    def graph_bytes(self) -> Array:
        """(candidates,) bytes of weights and of the graphs of all parts."""
        return self.total(self["weight_mb"] + self["graph_mb"]) * 1e6

    @property
    def spread(self) -> Array:
        """(candidates,) relative standard deviation of the sum, as if all erred alike."""
        return self.total(self["ms"] * self["sd"]) / self.total(self["ms"])

    def sums(self, kinds: Sequence[str]) -> Sums:
        """Sums to which a correction is fitted."""
        ms, kind, counts = self["ms"], self["kind"].astype(int), self.counts
        by_kind = [self.total(ms * (kind == k)) for k in range(len(kinds))]
        loaded = np.zeros((len(counts), int(counts.max())))
        position = np.arange(len(self.index)) - np.repeat(self.starts, counts)
        loaded[np.repeat(np.arange(len(counts)), counts), position] = self["loaded_mb"]
        return Sums(kinds, np.column_stack(by_kind), self.total(ms), counts.astype(float), loaded)
