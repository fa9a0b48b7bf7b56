"""Transfer: a device from a handful of measurements on it and everything known of others.

In logarithms a device is a mixture of others plus a shift: a Gaussian process whose covariance
is what the known devices have shown so far. Sources that already agree with the measurements
count for more, and leave-one-out says how far to leave their mean. Never across precisions or
runtimes, nor from a GPU to a CPU: ranks do not survive that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError

Array = NDArray[np.float64]
_PULLS = (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
_SLOPE = 0.1  # how far a device may grow faster or slower than the mean of the sources
_AGREE = 1e-4  # squared disagreement below which sources are equally good


def transfer(
    sources: Array,
    known: Sequence[int] | NDArray[np.intp],
    ms: Array,
    alike: Array | None = None,
) -> Array:
    """Predict a target device everywhere from a few measurements.

    Args:
        sources: (devices, n) latencies of n units on devices that are known.
        known: which of the n units were measured on the target.
        ms: their latencies on the target.
        alike: (kinds, n) where units are of one kind, by how much a device may do all of a kind
            faster or slower; 0 elsewhere.

    Returns:
        (n,) latencies on the target, in ms.

    Raises:
        CostError: no source, or no measurement.
    """
    at = np.asarray(known, np.intp)
    if not len(sources) or not len(at) or len(at) != len(ms):
        raise CostError("transfer needs known devices, and a measurement for each unit named")
    x, y = np.log(sources), np.log(np.asarray(ms, float))
    x = x - x[:, at].mean(1, keepdims=True)
    level = float(y.mean())
    weights = 1 / (((y - level - x[:, at]) ** 2).mean(1) + _AGREE)
    weights /= weights.sum()
    mean = weights @ x
    rest = y - level - mean[at]
    spread = np.vstack([(x - mean) * np.sqrt(weights / weights.max())[:, None], mean * _SLOPE])
    if alike is not None:
        spread = np.vstack([spread, alike])
    return np.exp(level + mean + _kriged(spread, at, rest))


def farthest(sources: Array, count: int) -> list[int]:
    """Units to measure on a new device, as different from each other as the sources can tell.

    Farthest-point sampling in the space of log latencies, from the unit nearest to the middle.

    Args:
        sources: (devices, n) latencies.
        count: how many.
    """
    x = np.log(sources).T
    chosen = [int(np.argmin(np.linalg.norm(x - np.median(x, 0), axis=1)))]
    nearest = np.linalg.norm(x - x[chosen[0]], axis=1)
    while len(chosen) < min(count, len(x)):
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(x - x[chosen[-1]], axis=1))
    return chosen


def _kriged(spread: Array, at: NDArray[np.intp], rest: Array) -> Array:
    """Residual at every unit, from the residuals where it is known.

    Kriging with an unknown constant (Cressie 1993, chapter 3); the noise is the one whose
    leave-one-out predictions are best, and without a better one nothing is added.
    """
    covariance = spread.T @ spread[:, at]  # (n, known)
    own = covariance[at]
    count, one = len(at), np.ones(len(at))
    best, added = float(np.abs(rest).mean()), np.zeros(spread.shape[1])
    if count < 3:
        return added
    size = max(float(np.trace(own)) / count, 1e-12)
    for pull in _PULLS:
        precision = np.linalg.inv(own + pull * size * np.eye(count))
        total = precision @ one
        centered = precision - np.outer(total, total) / total.sum()
        left_out = (centered @ rest) / np.diag(centered)
        error = float(np.abs(left_out).mean())
        if error < best:
            constant = float(total @ rest / total.sum())
            best, added = error, covariance @ precision @ (rest - constant) + constant
    return added
