"""Regressor: latency from physical terms that can only add time, and a smooth residual on them.

Few samples are enough for the terms, which extrapolate sanely; the residual, a Gaussian process
on the logarithm of the ratio, learns what they miss and says how sure it is (Rasmussen and
Williams 2006: chapter 2, and 5.1 for a length scale of its own for each coordinate). numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Column = float | Array
_INVERSE_LENGTHS = (1.5, 0.7, 0.3, 0.15, 0.08)  # to begin with, for coordinates of unit spread
_SIZES = (0.03, 0.1, 0.3)  # of what the terms miss, relative
_NOISES = (0.003, 0.006, 0.012, 0.025, 0.05)  # of a measurement, relative
_FACTORS = (1 / 3, 3.0)  # by which a length scale is tried shorter or longer
_SWEEPS = 2
_MOST = 100  # samples by which the scales are chosen; all are used for the prediction
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
        size = len(self.numbers)
        self.weights = np.zeros(len(self.terms))
        self.center, self.scale = np.zeros(size), np.ones(size)
        self.low, self.high = np.zeros(size), np.zeros(size)
        self.inverse_lengths = np.full(size, 0.3)
        self.points, self.alpha = np.zeros((0, size)), np.zeros(0)
        self.slope, self.signal, self.noise = 0.1, 0.1, 0.01
        self._inverse = np.zeros((0, 0))

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
        t, raw = matrix_of(terms, model.terms), matrix_of(numbers, model.numbers)
        model.weights = nnls(t / y[:, None], np.ones(len(y)))
        model.center, spread = raw.mean(0), raw.std(0)
        model.scale = np.where(spread > 1e-9, spread, 1.0)
        model.low, model.high = raw.min(0), raw.max(0)
        model.points = (raw - model.center) / model.scale
        residual = np.log(y / model._base(t))
        some = np.linspace(0, len(y) - 1, min(len(y), _MOST)).astype(int)
        model._choose_scales(model.points[some], residual[some])
        model._inverse = model._inverted()
        model.alpha = model._inverse @ residual
        return model

    def predict(
        self, terms: Sequence[Mapping[str, float]], numbers: Sequence[Mapping[str, float]]
    ) -> Guess:
        """Latency, spread and whether the point is in the measured box.

        Outside of the box the residual is that of the nearest point inside, and the spread grows
        with the distance: the terms alone extrapolate.
        """
        known = np.ones(len(numbers), bool)
        for keys, rows in _alike(numbers).items():
            known[rows] = set(self.numbers).issuperset(keys)
        return self._guess(matrix_of(terms, self.terms), matrix_of(numbers, self.numbers), known)

    def predict_columns(
        self, terms: Mapping[str, Column], numbers: Mapping[str, Column], count: int
    ) -> Guess:
        """The same of `count` points that have the same names, with all values of a name at once.

        Args:
            terms: name -> (count,) values, or one that all share.
            numbers: the same.
            count: points.
        """
        known = np.full(count, set(self.numbers).issuperset(numbers))
        t, raw = (
            np.column_stack([np.broadcast_to(given.get(name, 0.0), count) for name in names])
            for given, names in ((terms, self.terms), (numbers, self.numbers))
        )
        return self._guess(t, raw, known)

    def _guess(self, t: Array, raw: Array, known: NDArray[np.bool_]) -> Guess:
        x = (np.clip(raw, self.low, self.high) - self.center) / self.scale
        near = self._kernel(x, self.points)
        own = self.signal**2 + self.slope**2 * (x * x).sum(1) / max(x.shape[1], 1)
        explained = np.einsum("ij,ij->i", near @ self._inverse, near)
        sd = np.sqrt(np.maximum(own - explained, 0.0))
        beyond = np.maximum(np.maximum(raw - self.high, self.low - raw), 0.0) / self.scale
        far = beyond.max(1, initial=0.0)
        inside = (far <= 1e-9) & known
        sd = np.where(inside, sd, sd + self.signal * (1 + far))
        return Guess(self._base(t) * np.exp(near @ self.alpha), sd, inside)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers; `from_dict` reads them."""
        names = ("terms", "numbers", "slope", "signal", "noise")
        arrays = {name: np.round(getattr(self, name), 9).tolist() for name in _ARRAYS}
        return {name: getattr(self, name) for name in names} | arrays

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Regressor:
        """Inverse of `to_dict`; the inverse kernel matrix is computed anew."""
        data = dict[str, Any](data)
        data.setdefault("center", data.get("centre"))  # as version 0.1.0 spelled it
        model = cls(data["terms"], data["numbers"])
        for name in _ARRAYS:
            setattr(model, name, np.array(data[name], float))
        model.points = model.points.reshape(-1, len(model.numbers))
        model.slope, model.signal, model.noise = data["slope"], data["signal"], data["noise"]
        model._inverse = model._inverted()
        return model

    def _base(self, terms: Array) -> Array:
        return np.maximum(terms @ self.weights, 1e-6)

    def _kernel(self, left: Array, right: Array) -> Array:
        """A trend in every coordinate, and Matern 5/2 around it."""
        trend = left @ right.T / max(left.shape[1], 1)
        return self.slope**2 * trend + self.signal**2 * _matern(
            left * self.inverse_lengths, right * self.inverse_lengths
        )

    def _inverted(self) -> Array:
        gram = self._kernel(self.points, self.points)
        return np.asarray(
            np.linalg.inv(gram + (self.noise**2 + _JITTER) * np.eye(len(gram))), float
        )

    def _choose_scales(self, x: Array, residual: Array) -> None:
        """Choose sizes, noise and length scales by marginal likelihood, by coordinates."""
        best = (-np.inf, 0.1, 0.1, 0.01, _INVERSE_LENGTHS[0])
        trend = x @ x.T / max(x.shape[1], 1)
        for inverse in _INVERSE_LENGTHS:
            best = max(
                best, (*_best_sizes(trend, _matern(x * inverse, x * inverse), residual), inverse)
            )
        _, self.slope, self.signal, self.noise, inverse = best
        lengths = np.full(x.shape[1], inverse)
        score = self._likelihood(trend, x * lengths, residual)
        moving = np.flatnonzero(x.std(0) > 1e-9)
        for _, j, factor in product(range(_SWEEPS), moving, _FACTORS):
            trial = lengths.copy()
            trial[j] *= factor
            likelihood = self._likelihood(trend, x * trial, residual)
            if likelihood > score + 0.5:  # half a unit pays for the freedom
                score, lengths = likelihood, trial
        self.inverse_lengths = lengths
        scaled = x * lengths
        _, self.slope, self.signal, self.noise = _best_sizes(
            trend, _matern(scaled, scaled), residual
        )

    def _likelihood(self, trend: Array, scaled: Array, residual: Array) -> float:
        gram = self.slope**2 * trend + self.signal**2 * _matern(scaled, scaled)
        lower = np.linalg.cholesky(gram + (self.noise**2 + _JITTER) * np.eye(len(gram)))
        white = np.linalg.solve(lower, residual)
        return float(-0.5 * white @ white - np.log(np.diag(lower)).sum())


_ARRAYS = (
    *("weights", "center", "scale", "low", "high"),
    *("inverse_lengths", "points", "alpha"),
)


def _best_sizes(trend: Array, matern: Array, residual: Array) -> tuple[float, float, float, float]:
    """Likelihood, slope, signal and noise; one eigendecomposition serves every noise."""
    best = (-np.inf, 0.1, 0.1, 0.01)
    for slope, signal in product(_SIZES, _SIZES):
        values, vectors = np.linalg.eigh(slope**2 * trend + signal**2 * matern)
        square = (vectors.T @ residual) ** 2
        for noise in _NOISES:
            spectrum = np.maximum(values, 0.0) + noise**2
            likelihood = float(-0.5 * ((square / spectrum).sum() + np.log(spectrum).sum()))
            best = max(best, (likelihood, slope, signal, noise))
    return best


def _matern(left: Array, right: Array) -> Array:
    square = (left * left).sum(1)[:, None] + (right * right).sum(1) - 2 * left @ right.T
    d = np.sqrt(5 * np.maximum(square, 0.0))
    return (1 + d + d * d / 3) * np.exp(-d)


def _names(items: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for item in items for name in item))


def matrix_of(items: Sequence[Mapping[str, float]], names: Sequence[str]) -> Array:
    """(items, names) values, 0 where a name is absent."""
    matrix = np.zeros((len(items), len(names)))
    column = {name: index for index, name in enumerate(names)}
    for keys, rows in _alike(items).items():
        every = chain.from_iterable(items[row].values() for row in rows)
        values = np.fromiter(every, float, len(rows) * len(keys)).reshape(len(rows), len(keys))
        known = [i for i, key in enumerate(keys) if key in column]
        matrix[np.ix_(rows, [column[keys[i]] for i in known])] = values[:, known]
    return matrix


def _alike(items: Sequence[Mapping[str, float]]) -> dict[tuple[str, ...], list[int]]:
    """Items that have the same names, in the same order; most of a group do."""
    indices: dict[tuple[str, ...], list[int]] = {}
    for index, item in enumerate(items):
        indices.setdefault(tuple(item), []).append(index)
    return indices
