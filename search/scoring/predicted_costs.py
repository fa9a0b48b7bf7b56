"""Costs of candidates by the names of metrics, from a cost model and exact counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...cost_models import CostModel
from ...cost_models.units.indexer import Indexer
from ...cost_models.units.sub_block import SubBlock
from ...spaces import Candidate
from ..pareto.by_device import at

PREDICTED = ("latency_ms", "low_ms", "high_ms", "peak_memory_mb", "size_mb")
ENERGIES = ("energy_mj", "energy_low_mj", "energy_high_mj")  # where the device has a counter
COUNTED = ("macs", "params")


class CostPredictor:
    """Predicts the costs of candidates on one device.

    Args:
        model: the calibrated cost model.
    """

    def __init__(self, model: CostModel) -> None:
        self.model, self._counts = model, Counts()

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Latency and energy with intervals, peak memory, size, and what is counted."""
        return self.all([candidate])[0]

    def all(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Costs of many candidates, in a fraction of the time."""
        if not candidates:
            return []
        predicted = self.model.predict(candidates)
        names = (*PREDICTED, *(ENERGIES if self.model.energy else ()))
        columns = [getattr(predicted, name) for name in names]
        rows = np.column_stack([*columns, self._counts(candidates)]).tolist()
        return [dict(zip((*names, *COUNTED), row, strict=True)) for row in rows]


class TogetherPredictor:
    """Predicts the costs of candidates on several devices, each by its name with the device.

    Args:
        by_device: predictor of each.
    """

    def __init__(self, by_device: Mapping[str, CostPredictor]) -> None:
        self._by_device = dict(by_device)

    def all(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Costs of candidates on all devices, and what is counted, which is the same on each."""
        together: list[dict[str, float]] = [{} for _ in candidates]
        for device, predictor in self._by_device.items():
            for known, costs in zip(together, predictor.all(candidates), strict=True):
                known |= {n if n in COUNTED else at(n, device): v for n, v in costs.items()}
        return together


class Counts:
    """Multiply-accumulates and parameters, each sub-block counted once."""

    def __init__(self) -> None:
        self._numbers: dict[SubBlock, int] = {}
        self._known, self._new = np.empty((0, len(COUNTED))), list[tuple[int, int]]()
        self._indexer = Indexer(self._number)

    def __call__(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """Counts of candidates (N, 2)."""
        if not candidates:
            return np.empty((0, len(COUNTED)))
        index, starts = self._indexer.index(candidates)
        if self._new:
            self._known = np.vstack([self._known, self._new])
            self._new.clear()
        return np.add.reduceat(self._known[index], starts)

    def _number(self, block: SubBlock) -> int:
        if block not in self._numbers:
            self._numbers[block] = len(self._numbers)
            self._new.append((block.macs, block.params))
        return self._numbers[block]
