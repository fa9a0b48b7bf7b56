"""Correct: from the sum of sub-blocks to the whole model.

latency = c + sum over sub-blocks of (a_kind x measured + b + d x weight bytes): what a whole
model does differently from its parts is a common overhead, one for each call, and weights that
no longer fit the cache. Ridge regression on relative errors, pulled towards the plain sum, so
that few whole models are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_PULLS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# How far, relative, a coefficient may be expected from the plain sum.
_PRIOR_SHARED, _PRIOR_KIND, _PRIOR_CALL, _PRIOR_BYTES = 0.3, 0.1, 0.3, 0.3


@dataclass
class Correction:
    """Coefficients of the correction.

    Attributes:
        kinds: names of the groups that have a factor of their own.
        factors: one for each kind.
        per_call_ms: b.
        per_weight_mb: d, in ms a megabyte.
        constant_ms: c.
    """

    kinds: list[str] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    per_call_ms: float = 0.0
    per_weight_mb: float = 0.0
    constant_ms: float = 0.0
    shared: float = 1.0

    def factor(self, kind: str) -> float:
        """Factor on the measured time of a group's sub-blocks."""
        return self.factors[self.kinds.index(kind)] if kind in self.kinds else self.shared

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def fit_correction(
    kinds: Sequence[str], sums: Array, calls: Array, weight_mb: Array, actual_ms: Array
) -> tuple[Correction, Array]:
    """Fit, and predict every model from the others.

    Args:
        kinds: names of the groups.
        sums: (models, kinds + 1) summed latency of each group's sub-blocks in ms, and of those
            that belong to none.
        calls: (models,) number of sub-blocks.
        weight_mb: (models,) weights in megabytes.
        actual_ms: (models,) measured latency.

    Returns:
        The correction, and (models,) leave-one-out predictions in ms.
    """
    if not len(actual_ms):
        return Correction(list(kinds), [1.0] * len(kinds)), actual_ms
    total = sums.sum(1)
    ones = np.ones(len(total))
    design = np.column_stack([total, sums[:, : len(kinds)], calls, weight_mb, ones])
    design = design / actual_ms[:, None]
    target = 1 - total / actual_ms
    # Each coefficient in units of its expected size, so that one pull fits all.
    typical = np.array(
        [
            _PRIOR_SHARED,
            *[_PRIOR_KIND] * len(kinds),
            _PRIOR_CALL * float(np.median(total / calls)),
            _PRIOR_BYTES * float(np.median(total / np.maximum(weight_mb, 1e-9))),
            _PRIOR_CALL * float(np.median(total)) / 10,
        ]
    )
    scaled = design * typical
    best: tuple[float, Array, Array] | None = None
    for pull in _PULLS:
        noise = 0.02 * pull
        inverse = np.linalg.inv(scaled.T @ scaled + noise**2 * np.eye(scaled.shape[1]))
        weights = inverse @ scaled.T @ target
        leverage = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
        left_out = (target - scaled @ weights) / (1 - np.minimum(leverage, 0.999))
        error = float(np.abs(left_out).mean())
        if best is None or error < best[0] * 0.99:
            best = (error, weights * typical, left_out)
    assert best is not None
    _, weights, left_out = best
    count = len(kinds)
    correction = Correction(
        list(kinds),
        [float(1 + weights[0] + w) for w in weights[1 : 1 + count]],
        float(weights[1 + count]),
        float(weights[2 + count]),
        float(weights[3 + count]),
        float(1 + weights[0]),
    )
    return correction, actual_ms * np.maximum(1 - left_out, 0.05)
