"""Transfer: a device from a handful of measurements on it and everything known of others.

In logarithms a device differs from another by a shift, then by a slope, then by a mixture of
several: which of the three is affordable depends on how many measurements there are. Ridge
regression towards the first is all three at once. Never across precisions or runtimes, nor from
a GPU to a CPU: ranks do not survive that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..spaces.errors import CostError

Array = NDArray[np.float64]
_PULLS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def transfer(sources: Array, known: Sequence[int] | NDArray[np.intp], ms: Array) -> Array:
    """Predict a target device everywhere from a few measurements.

    The target's logarithm is the best source's plus a shift, plus a weighted sum of how the
    sources differ from each other; the weights are pulled towards 0 as strongly as leaving
    measurements out one by one says.

    Args:
        sources: (devices, n) latencies of n units on devices that are known.
        known: which of the n units were measured on the target.
        ms: their latencies on the target.

    Returns:
        (n,) latencies on the target, in ms.

    Raises:
        CostError: no source, or no measurement.
    """
    if not len(sources) or not len(ms):
        raise CostError("transfer needs at least one known device and one measurement")
    x, y = np.log(sources), np.log(np.asarray(ms, float))
    at = np.asarray(known)
    base = _closest(x[:, at], y)
    centred = x - x[:, at].mean(1, keepdims=True)
    features = np.vstack([centred, _slope(centred[base])])  # (devices + 1, n)
    differences = np.vstack([centred - centred[base], features[-1:]])
    differences = np.delete(differences, base, 0)
    shift = float(np.mean(y - x[base, at]))
    target = y - x[base, at] - shift
    weights = _ridge(differences[:, at].T, target)
    return np.exp(x[base] + shift + weights @ differences)


def farthest(sources: Array, count: int) -> list[int]:
    """Units to measure on a new device: as different from each other as the sources tell.

    Farthest-point sampling in the space of log latencies, from the unit nearest to the middle.

    Args:
        sources: (devices, n) latencies.
        count: how many.
    """
    x = np.log(sources).T
    distance = np.linalg.norm(x - np.median(x, 0), axis=1)
    found = [int(np.argmin(distance))]
    nearest = np.linalg.norm(x - x[found[0]], axis=1)
    while len(found) < min(count, len(x)):
        found.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(x - x[found[-1]], axis=1))
    return found


def _closest(x: Array, y: Array) -> int:
    """The source whose ratio to the target varies least."""
    return int(np.argmin([(y - row).std() for row in x]))


def _slope(row: Array) -> Array:
    """How the target may grow faster or slower than the source: its own log, scaled down."""
    return row / max(float(row.std()), 1e-9) * 0.1


def _ridge(design: Array, target: Array) -> Array:
    """Ridge weights; the pull is the one that predicts left-out samples best."""
    if len(target) < 3:
        return np.zeros(design.shape[1])
    best = (float(np.abs(target - target.mean()).mean()), np.zeros(design.shape[1]))
    gram = design.T @ design
    scale = max(float(np.trace(gram)) / max(len(gram), 1), 1e-12)
    for pull in _PULLS:
        inverse = np.linalg.inv(gram + pull * scale * np.eye(len(gram)))
        weights = inverse @ design.T @ target
        leverage = np.einsum("ij,jk,ik->i", design, inverse, design) + 1 / len(target)
        left_out = (target - design @ weights) / (1 - np.minimum(leverage, 0.99))
        error = float(np.abs(left_out).mean())
        if error < best[0]:
            best = (error, weights)
    return best[1]
