"""GaussianProcess: predicts a score from few examples, and says how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LENGTHS = (0.5, 1.0, 2.0)  # of the kernel, in typical distances between examples
LINEAR = (0.1, 1.0)  # variance of the linear part, that of the smooth one being 1
NOISE = (1e-3, 1e-2, 1e-1)  # variance of what no feature explains
ENOUGH = 64  # examples to choose among these


@dataclass(frozen=True)
class GaussianProcess:
    """A linear function plus a smooth one plus noise (Rasmussen and Williams 2006, chapter 2).

    Made by `fit`.

    Attributes:
        kernel: length, variance of the linear part, and variance of the whole.
        noise: variance, relative to the whole.
    """

    _x: Array
    _inverse: Array
    _weights: Array
    _shift: Array
    _scale: Array
    _level: tuple[float, float]
    kernel: tuple[float, float, float]
    noise: float

    @classmethod
    def fit(
        cls,
        features: Array,
        targets: Array,
        weights: Array | float = 1.0,
        lengths: Sequence[float] = LENGTHS,
    ) -> GaussianProcess:
        """Learn from examples.

        Features are standardized; length, share of the linear part and noise are those of a
        small grid under which the targets, or an even sample of them, are the most likely.

        Args:
            features: (N, D).
            targets: (N,).
            weights: (D,), of a standard deviation of each feature.
            lengths: of the kernel that are tried, in typical distances; where it is infinite, the
                process is a linear regression with an unknown intercept.
        """
        shift, scale = features.mean(0), features.std(0)
        # A column without variety says nothing.
        scale = np.where(scale > 1e-9, scale, np.inf) / weights
        x = (features - shift) / scale
        mean, spread = float(targets.mean()), float(targets.std()) or 1.0
        y = (targets - mean) / spread
        some = np.linspace(0, len(x) - 1, min(len(x), ENOUGH)).round().astype(int)
        length, linear, noise = _likeliest(x[some], y[some], lengths)
        covariance = _covariance(_squares(x, x), x @ x.T, length, linear)
        covariance[np.diag_indices(len(x))] += noise
        inverse = np.linalg.inv(np.linalg.cholesky(covariance)).T
        rotated = y @ inverse
        # The likeliest one; above 0 also if all targets are equal.
        amplitude = max(float((rotated**2).mean()), 1e-12)
        kernel = length, linear, amplitude
        level = mean, spread
        return cls(
            x, inverse / amplitude**0.5, inverse @ rotated, shift, scale, level, kernel, noise
        )

    @property
    def rest(self) -> float:
        """Standard deviation of what no feature explains."""
        return self._level[1] * (self.kernel[2] * self.noise) ** 0.5

    def left_out(self) -> Array:
        """Errors about each example (N,) if it is left out, in standard deviations.

        In closed form (Rasmussen and Williams 2006, equation 5.12).
        """
        precision = self._inverse @ self._inverse.T
        return self._weights / self.kernel[2] / np.sqrt(np.diag(precision))

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, noise left out, of (N, D) features."""
        x = (features - self._shift) / self._scale
        length, linear, amplitude = self.kernel
        cross = _covariance(_squares(x, self._x), x @ self._x.T, length, linear)
        own = 1 + linear * (x**2).sum(1)
        explained = ((amplitude * cross @ self._inverse) ** 2).sum(1)
        variance = np.maximum(amplitude * own - explained, 1e-12)
        mean, spread = self._level
        return mean + spread * (cross @ self._weights), spread * np.sqrt(variance)


def _likeliest(x: Array, y: Array, lengths: Sequence[float]) -> tuple[float, float, float]:
    """Length, variance of the linear part, and noise."""
    squares, products = _squares(x, x), x @ x.T
    typical = float(np.sqrt(np.median(squares))) or 1.0
    fits: list[tuple[float, tuple[float, float, float]]] = []
    for length, linear in product(lengths, LINEAR):
        kernel = length * typical, linear / max(1, x.shape[1])
        values, vectors = np.linalg.eigh(_covariance(squares, products, *kernel))
        rotated = vectors.T @ y
        for noise in NOISE:
            spectrum = np.maximum(values, 0.0) + noise
            amplitude = max(float((rotated**2 / spectrum).mean()), 1e-12)
            loss = float(len(y) * np.log(amplitude) + np.log(spectrum).sum())
            fits.append((loss, (*kernel, noise)))
    return min(fits)[1]


def _squares(a: Array, b: Array) -> Array:
    """Squared distances (N, M) of rows."""
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0)


def _covariance(squares: Array, products: Array, length: float, linear: float) -> Array:
    """Matern 5/2 plus linear."""
    r = np.sqrt(5 * squares) / length
    return (1 + r + r**2 / 3) * np.exp(-r) + linear * products
