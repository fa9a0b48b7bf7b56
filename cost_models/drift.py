"""Drift: steps in the speed of a machine, found in the order in which things were measured.

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
CERTAIN = 4.0  # standard errors by which a step must stand out


def segments(residual: Array) -> list[int]:
    """Where each segment of equal level begins, the first at 0.

    Args:
        residual: logarithm of measured over expected, in the order of measuring.
    """
    if not len(residual):
        return [0]
    clipped = np.clip(residual, *np.percentile(residual, [2, 98]))
    found = [0]
    _split(clipped, 0, len(clipped), found)
    return sorted(found)


def levels(residual: Array) -> Array:
    """The speed of each measurement's segment, relative to the middle one; 1 without drift."""
    begins = segments(residual)
    medians = [
        float(np.median(part)) for part in np.split(residual, begins[1:]) if len(part)
    ]
    lengths = np.diff([*begins, len(residual)])
    each = np.repeat(medians, lengths)
    return np.exp(each - np.median(each))


def undrifted(
    ms: Array, fit: Callable[[Array], Array], rounds: int = 3
) -> tuple[Array, Array]:
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


def _split(values: Array, start: int, end: int, found: list[int]) -> None:
    """Cut where the two sides differ most, if they differ enough; then look at both sides."""
    n = end - start
    if n < 2 * SHORTEST:
        return
    part = values[start:end]
    total = np.cumsum(part)
    left = np.arange(1, n)
    gain = (total[:-1] - left * total[-1] / n) ** 2 / (left * (n - left))
    allowed = gain[SHORTEST - 1 : n - SHORTEST]
    cut = SHORTEST + int(np.argmax(allowed))
    before, after = part[:cut], part[cut:]
    step = abs(float(np.median(before) - np.median(after)))
    noise = 1.4826 * float(
        np.median(np.abs(np.concatenate([before - np.median(before), after - np.median(after)])))
    )
    error = max(noise, 1e-6) * np.sqrt(1 / len(before) + 1 / len(after))
    if step < STEP or step < CERTAIN * error:
        return
    found.append(start + cut)
    _split(values, start, start + cut, found)
    _split(values, start + cut, end, found)
