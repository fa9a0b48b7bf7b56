"""Correction: from the sum of sub-blocks to the whole model.

latency = c + sum over sub-blocks of (a_kind x measured + b) + d x misses. What a whole model does
differently from its parts: an overhead of its own, one for each call, and a cache that its
weights fill together. A sub-block is measured as a few copies in a row; a network has other
neighbors, so that weights come from further away, or from nearer, than in the measurement.

Bayesian linear regression on relative errors, whose prior is the plain sum, so that few whole
models are enough; how far to leave the prior, and the size of the cache, are those whose
leave-one-out predictions are best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
COPIES = 4  # of a sub-block in a row, when it is measured
_CACHES_MB = (0.5, 1.0, 2.0, 4.0, 1e9)  # to try; the last is a cache that holds everything
_PULLS = (0.25, 0.5, 1.0, 2.0, 4.0)
_ERROR = 0.02  # relative, of a prediction with the right coefficients
# Expected size of each coefficient's departure from the plain sum.
_SHARED, _KIND = 0.1, 0.04  # of a measured time
_CALL, _CONSTANT = 0.1, 1.0  # in units of the median sub-block's time
_QUIET = 0.03  # unrest at which a measurement counts for half
_MISS_MS = 0.03  # a megabyte at 33 GB/s
LEAST = 0.1  # of its parts' time, that anything takes whatever few networks seem to say


@dataclass
class Correction:
    """Coefficients of the correction.

    Attributes:
        kinds: names of the groups that have a factor of their own.
        factors: one for each kind.
        shared: factor of everything else.
        per_call_ms: b.
        constant_ms: c.
        per_miss_mb: d, in ms for a megabyte of weights that does not stay in the cache.
        cache_mb: size of that cache.
    """

    kinds: list[str] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    shared: float = 1.0
    per_call_ms: float = 0.0
    constant_ms: float = 0.0
    per_miss_mb: float = 0.0
    cache_mb: float = 1e9

    def unit_ms(self, ms: Array, kind: NDArray[np.intp], loaded_mb: Array) -> Array:
        """Time of each sub-block in a network whose weights all stay in the cache.

        Args:
            ms: measured times.
            kind: position in `kinds`, -1 for none.
            loaded_mb: weights as the kernels use them.
        """
        factors = np.array([*self.factors, self.shared])[kind]
        missed = self.per_miss_mb * loaded_mb * share_missed(COPIES * loaded_mb, self.cache_mb)
        return np.maximum(ms * factors + self.per_call_ms - missed, LEAST * ms)

    def model_ms(self, loaded_mb: Array) -> Array:
        """Time of a network beside its sub-blocks in ms, from its weights."""
        missed = loaded_mb * share_missed(loaded_mb, self.cache_mb)
        return self.constant_ms + self.per_miss_mb * missed

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return asdict(self)


def share_missed(footprint_mb: Array, cache_mb: float) -> Array:
    """Share of weights that are gone when they are needed again; from half the cache on."""
    return np.clip(footprint_mb / cache_mb - 0.5, 0.0, 1.0)


@dataclass(frozen=True)
class Sums:
    """Sums over the sub-blocks of some networks, to which a correction is fitted.

    Attributes:
        kinds: names of the groups that may have a factor.
        by_kind: (models, kinds) summed measured times in ms.
        total: (models,) summed measured times of all sub-blocks.
        calls: (models,) number of sub-blocks.
        loaded: (models, units) weights of each sub-block in MB, 0 where there are fewer.
    """

    kinds: Sequence[str]
    by_kind: Array
    total: Array
    calls: Array
    loaded: Array


def fit_correction(
    sums: Sums, actual_ms: Array, unrest: Array | None = None
) -> tuple[Correction, Array]:
    """Fit, and predict every model from the others.

    Args:
        sums: of the models.
        actual_ms: (models,) measured latency.
        unrest: (models,) relative spread of each one's rounds; restless ones count for less.

    Returns:
        The correction, and (models,) leave-one-out predictions in ms.
    """
    used = np.flatnonzero(sums.by_kind.sum(0) > 0)
    typical_ms = float(np.median(sums.total / sums.calls))
    prior = np.array(
        [_SHARED, *[_KIND] * len(used), _CALL * typical_ms, _CONSTANT * typical_ms, _MISS_MS]
    )
    trust = 1 / (1 + (np.zeros(len(actual_ms)) if unrest is None else unrest) / _QUIET)
    target = 1 - sums.total / actual_ms
    ones = np.ones(len(actual_ms))
    weight = sums.loaded.sum(1)
    best: tuple[float, Array, Array, float] | None = None
    for cache in _CACHES_MB:
        apart = (sums.loaded * share_missed(COPIES * sums.loaded, cache)).sum(1)
        misses = weight * share_missed(weight, cache) - apart
        columns = [sums.total, sums.by_kind[:, used], sums.calls, ones, misses]
        design = np.column_stack(columns) / actual_ms[:, None] * prior
        trusted = design * trust[:, None]
        for pull in _PULLS:
            weights, left_out = _ridge(trusted, target * trust, _ERROR * pull)
            error = float(np.abs(left_out).mean())
            if weights[-1] < 0:
                continue  # a miss takes time; anything else is another effect in disguise
            if best is None or error < best[0] * 0.99:
                best = (error, weights * prior, left_out, cache)
    assert best is not None
    _, solution, left_out, cache = best
    left_out = left_out / trust
    factors = np.full(len(sums.kinds), 1 + solution[0])
    factors[used] += solution[1 : 1 + len(used)]
    rest = solution[1 + len(used) :]
    correction = Correction(
        kinds=list(sums.kinds),
        factors=factors.tolist(),
        shared=float(1 + solution[0]),
        per_call_ms=float(rest[0]),
        constant_ms=float(rest[1]),
        per_miss_mb=float(rest[2]),
        cache_mb=cache,
    )
    return correction, actual_ms * np.maximum(1 - left_out, 0.05)


def _ridge(design: Array, target: Array, noise: float) -> tuple[Array, Array]:
    """Weights with a prior of unit variance, and leave-one-out residuals."""
    inverse = np.linalg.inv(design.T @ design + noise**2 * np.eye(design.shape[1]))
    weights = inverse @ design.T @ target
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    return weights, (target - design @ weights) / (1 - np.minimum(leverage, 0.999))
