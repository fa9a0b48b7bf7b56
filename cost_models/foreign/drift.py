"""Drift: steps in the speed of a machine, seen in the order of its measurements.

A machine that is throttled, or shared, or updated, changes its speed by a step; whatever was
measured after is comparable with itself only. Binary segmentation (Scott and Knott 1974) of the
residuals of any fair model finds the steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SHORTEST = 20  # measurements of a segment
STEP = 0.04  # a smaller step, relative, is not worth a segment
CERTAIN = 10.0  # how much more a segment must explain than chance would, in the usual penalty


def segments(residual: Array) -> list[int]:
    """Starts of the segments of equal level, the first at 0.

    Args:
        residual: logarithm of measured over expected, in the order of measuring.
    """
    n = len(residual)
    if n < 2 * SHORTEST:
        return [0]
    values = np.clip(residual, *np.percentile(residual, [1, 99]))
    # Neighbors differ by noise only, whatever the drift.
    noise = 1.4826 * float(np.median(np.abs(np.diff(values)))) / np.sqrt(2)
    penalty = 2 * np.log(n) * max(noise, 1e-6) ** 2 * CERTAIN
    total, square = np.cumsum(np.append(0, values)), np.cumsum(np.append(0, values**2))
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    last = np.zeros(n + 1, int)
    for end in range(SHORTEST, n + 1):
        start = np.arange(0, end - SHORTEST + 1)
        length = end - start
        error = square[end] - square[start] - (total[end] - total[start]) ** 2 / length
        cost = best[start] + error + penalty
        last[end] = int(np.argmin(cost))
        best[end] = cost[last[end]]
    begins = [n]
    while begins[-1] > 0:
        begins.append(int(last[begins[-1]]))
    return _merged(residual, begins[:0:-1])


def _merged(residual: Array, begins: list[int]) -> list[int]:
    """Starts of segments, without steps that are too small to matter."""
    while len(begins) > 1:
        medians = [float(np.median(part)) for part in np.split(residual, begins[1:])]
        steps = np.abs(np.diff(medians))
        small = int(np.argmin(steps))
        if steps[small] >= STEP:
            break
        del begins[small + 1]
    return begins


def levels(residual: Array) -> Array:
    """The speed of each measurement's segment, relative to the middle one; 1 without drift."""
    begins = segments(residual)
    medians = [float(np.median(part)) for part in np.split(residual, begins[1:]) if len(part)]
    lengths = np.diff([*begins, len(residual)])
    each = np.repeat(medians, lengths)
    return np.exp(each - np.median(each))


def undrifted(ms: Array, fit: Callable[[Array], Array], rounds: int = 3) -> tuple[Array, Array]:
    """Measurements with steps divided out, and the speed that was divided.

    Args:
        ms: latencies in the order of measuring.
        fit: latencies -> what a model fitted to them expects of each.
        rounds: a better model shows steps better, and the other way round.
    """
    speed = np.ones(len(ms))
    for _ in range(rounds):
        expected = fit(ms / speed)
        speed = levels(np.log(ms / expected))
    return ms / speed, speed


def size(speed: Array) -> float:
    """The largest step, relative; 0 without drift."""
    return float(speed.max() / speed.min() - 1) if len(speed) else 0.0
