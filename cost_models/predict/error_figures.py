"""Error figures: quality of predictions, in the figures that published systems report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .prediction import Prediction

if TYPE_CHECKING:
    from ..tables.latency_table import Row

Array = NDArray[np.float64]


def mape(actual: Array, predicted: Array) -> float:
    """Mean absolute error in percent of the actual value."""
    return float(np.mean(np.abs(predicted / actual - 1)) * 100)


def within(actual: Array, predicted: Array, tolerance: float) -> float:
    """Percentage of predictions that are off by at most `tolerance`, relative."""
    return float(np.mean(np.abs(predicted / actual - 1) <= tolerance) * 100)


def spearman(left: Array, right: Array) -> float | None:
    """Rank correlation; ties share their mean rank. None where all of one side are equal."""
    ranks = _ranks(left), _ranks(right)
    return float(np.corrcoef(*ranks)[0, 1]) if all(np.ptp(own) > 0 for own in ranks) else None


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def accuracy(actual_ms: Array, predicted: Prediction) -> dict[str, float]:
    """Figures of latency predictions, in percent where the name does not say otherwise.

    Without a rank correlation where nothing is ranked, as of one network.
    """
    covered = (predicted.low_ms <= actual_ms) & (actual_ms <= predicted.high_ms)
    ranked = spearman(actual_ms, predicted.latency_ms)
    return {
        "mape": round(mape(actual_ms, predicted.latency_ms), 3),
        "median_error": round(
            float(np.median(np.abs(predicted.latency_ms / actual_ms - 1)) * 100), 3
        ),
        "within_5": round(within(actual_ms, predicted.latency_ms, 0.05), 2),
        "within_10": round(within(actual_ms, predicted.latency_ms, 0.10), 2),
        **({} if ranked is None else {"spearman": round(ranked, 4)}),
        "coverage_of_90": round(float(np.mean(covered) * 100), 2),
    }


def noise_floor(keys: Sequence[str], levels_ms: Array) -> float:
    """Mean distance of a measurement from the middle of all of the same thing, in percent.

    No prediction can be closer than that. 0 where nothing was measured twice.
    """
    logs = np.log(levels_ms)
    groups = [logs[[k == key for k in keys]] for key in dict.fromkeys(keys)]
    apart = [abs(one - group.mean()) for group in groups if len(group) > 1 for one in group]
    return round(float(np.mean(apart)) * 100, 3) if apart else 0.0


def storage(rows: Sequence[Row], predicted: Prediction) -> dict[str, float]:
    """Median error of size and, where it was measured, of peak memory, in percent."""
    medians: dict[str, float] = {}
    for name, actual, guess in (
        ("size_error", [row.graph_bytes for row in rows], predicted.size_mb),
        ("memory_error", [row.peak_bytes for row in rows], predicted.peak_memory_mb),
    ):
        measured = np.array(actual) / 1e6
        known = measured > 0
        if known.any():
            errors = np.abs(guess[known] / measured[known] - 1) * 100
            medians[name] = round(float(np.median(errors)), 3)
    return medians
