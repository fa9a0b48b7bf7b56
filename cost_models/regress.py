"""Regress: latency from physical terms that can only add time, and a smooth residual on them.

Few samples are enough for the terms, which extrapolate sanely; the residual, a Gaussian process
on the logarithm of the ratio, learns what they miss and says how sure it is (Rasmussen and
Williams 2006, chapter 2). numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LENGTHS = (0.7, 1.5, 3.0, 6.0)  # length scales to try, in standard deviations of a coordinate
_NOISES = (0.004, 0.01, 0.03)  # relative noise of a measurement to try
_SIGNALS = (0.03, 0.1, 0.3)  # relative size of what the terms miss, to try
_JITTER = 1e-8


def nnls(a: Array, b: Array, steps: int = 300) -> Array:
    """Non-negative least squares by an active set (Lawson and Hanson 1974, chapter 23).

    Args:
        a: (n, k).
        b: (n,).
        steps: at most this many changes of the active set.
    """
    gram, target = a.T @ a, a.T @ b
    gram = gram + np.eye(len(gram)) * _JITTER * max(float(np.trace(gram)), 1e-30)
    x = np.zeros(len(gram))
    active = np.zeros(len(gram), bool)
    tolerance = 1e-10 * max(float(np.abs(target).max(initial=0.0)), 1e-30)
    for _ in range(steps):
        slope = target - gram @ x
        slope[active] = -np.inf
        best = int(np.argmax(slope))
        if slope[best] <= tolerance:
            break
        active[best] = True
        while True:
            trial = np.zeros_like(x)
            trial[active] = np.linalg.solve(gram[np.ix_(active, active)], target[active])
            negative = active & (trial <= 0)
            if not negative.any():
                break
            step = np.min(x[negative] / np.maximum(x[negative] - trial[negative], 1e-300))
            x += step * (trial - x)
            active &= x > 1e-14
            x[~active] = 0.0
        x = trial
    return x


@dataclass(frozen=True)
class Guess:
    """Predictions of a regressor.

    Attributes:
        ms: (n,) latencies.
        sd: (n,) relative standard deviations.
        inside: (n,) whether every coordinate is within those measured.
    """

    ms: Array
    sd: Array
    inside: NDArray[np.bool_]


class Regressor:
    """Latency of one group of units, fitted on a few of them.

    Attributes:
        terms: names of the physical terms, in millions of elements, bytes or operations.
        numbers: names of the coordinates.
    """

    def __init__(self, terms: Sequence[str], numbers: Sequence[str]) -> None:
        self.terms, self.numbers = list(terms), list(numbers)
        self.weights = np.zeros(len(self.terms))
        self.centre = np.zeros(len(self.numbers))
        self.scale = np.ones(len(self.numbers))
        self.low = np.zeros(len(self.numbers))
        self.high = np.zeros(len(self.numbers))
        self.points = np.zeros((0, len(self.numbers)))
        self.alpha = np.zeros(0)
        self.inverse = np.zeros((0, 0))
        self.length, self.signal, self.noise = 1.5, 0.1, 0.01

    @classmethod
    def fit(
        cls,
        terms: Sequence[Mapping[str, float]],
        numbers: Sequence[Mapping[str, float]],
        ms: Sequence[float] | Array,
    ) -> Regressor:
        """Fit terms and residual.

        Args:
            terms: physical terms of each sample, by name.
            numbers: coordinates of each sample, by name; 0 where absent.
            ms: latency of each sample.
        """
        model = cls(_names(terms), _names(numbers))
        y = np.asarray(ms, float)
        t, x = _matrix(terms, model.terms), _matrix(numbers, model.numbers)
        model.weights = nnls(t / y[:, None], np.ones(len(y)))
        model.centre, spread = x.mean(0), x.std(0)
        model.scale = np.where(spread > 1e-9, spread, 1.0)
        model.low, model.high = x.min(0), x.max(0)
        base = model._base(t)
        model._fit_residual((x - model.centre) / model.scale, np.log(y / base))
        return model

    def predict(
        self, terms: Sequence[Mapping[str, float]], numbers: Sequence[Mapping[str, float]]
    ) -> Guess:
        """Latency, spread and whether the point is in the measured box."""
        t, raw = _matrix(terms, self.terms), _matrix(numbers, self.numbers)
        x = (raw - self.centre) / self.scale
        near = self._kernel(x, self.points)
        sd = np.sqrt(
            np.maximum(self.signal**2 - np.einsum("ij,jk,ik->i", near, self.inverse, near), 0.0)
        )
        known, slack = set(self.numbers), 1e-9
        inside = ((raw >= self.low - slack) & (raw <= self.high + slack)).all(1)
        inside &= np.array([known >= item.keys() for item in numbers], bool)
        # Outside of the box the residual knows nothing: the terms alone, and a wider spread.
        clamped = np.where(inside, near @ self.alpha, 0.0)
        beyond = np.maximum(np.maximum(raw - self.high, self.low - raw), 0.0) / self.scale
        sd = np.where(inside, sd, self.signal * (1.5 + 0.5 * beyond.max(1, initial=0.0)))
        return Guess(self._base(t) * np.exp(clamped), sd, inside)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers; `from_dict` reads them."""
        arrays = {
            name: np.round(getattr(self, name), 9).tolist()
            for name in ("weights", "centre", "scale", "low", "high", "points", "alpha")
        }
        return {
            "terms": self.terms,
            "numbers": self.numbers,
            "length": self.length,
            "signal": self.signal,
            "noise": self.noise,
        } | arrays

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Regressor:
        """Inverse of `to_dict`; the inverse kernel matrix is computed anew."""
        model = cls(data["terms"], data["numbers"])
        for name in ("weights", "centre", "scale", "low", "high", "alpha"):
            setattr(model, name, np.array(data[name], float))
        model.points = np.array(data["points"], float).reshape(-1, len(model.numbers))
        model.length, model.signal = data["length"], data["signal"]
        model.noise = data["noise"]
        model.inverse = np.linalg.inv(model._gram(model.points))
        return model

    def _base(self, terms: Array) -> Array:
        return np.maximum(terms @ self.weights, 1e-6)

    def _kernel(self, left: Array, right: Array) -> Array:
        """Matern 5/2."""
        square = ((left[:, None] - right[None]) ** 2).sum(-1) if left.size or right.size else 0.0
        d = np.sqrt(5 * np.asarray(square)) / self.length
        return (self.signal**2 * (1 + d + d * d / 3) * np.exp(-d)).reshape(len(left), len(right))

    def _gram(self, points: Array) -> Array:
        return self._kernel(points, points) + (self.noise**2 + _JITTER) * np.eye(len(points))

    def _fit_residual(self, x: Array, residual: Array) -> None:
        """Choose length, signal and noise by marginal likelihood."""
        best = (-np.inf, self.length, self.signal, self.noise)
        square = ((x[:, None] - x[None]) ** 2).sum(-1)
        for length in _LENGTHS:
            d = np.sqrt(5 * square) / length
            shape = (1 + d + d * d / 3) * np.exp(-d)
            for signal in _SIGNALS:
                for noise in _NOISES:
                    gram = signal**2 * shape + (noise**2 + _JITTER) * np.eye(len(x))
                    lower = np.linalg.cholesky(gram)
                    white = np.linalg.solve(lower, residual)
                    likelihood = -0.5 * white @ white - np.log(np.diag(lower)).sum()
                    if likelihood > best[0]:
                        best = (float(likelihood), length, signal, noise)
        _, self.length, self.signal, self.noise = best
        self.points = x
        self.inverse = np.linalg.inv(self._gram(x))
        self.alpha = self.inverse @ residual


def _names(items: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for item in items for name in item))


def _matrix(items: Sequence[Mapping[str, float]], names: Sequence[str]) -> Array:
    return np.array([[item.get(name, 0.0) for name in names] for item in items], float).reshape(
        len(items), len(names)
    )
