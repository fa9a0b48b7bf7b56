"""Conformal: intervals that hold, from errors on models that were not used for fitting.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): the interval's half width is a
quantile of the errors seen, scaled by each prediction's own spread. It holds as long as
calibration and use are exchangeable, which shuffled measuring is for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def scores(actual: Array, predicted: Array, spread: Array) -> Array:
    """Errors of the logarithm in units of each prediction's spread."""
    return np.abs(np.log(actual / predicted)) / spread


def quantile(errors: Array, level: float) -> float:
    """The conformal quantile of n scores: the ceil((n + 1) level)-th smallest.

    With too few scores for the level it is the largest.

    >>> quantile(np.arange(1.0, 10.0), 0.9)
    9.0
    """
    if not len(errors):
        return 0.0
    rank = min(int(np.ceil((len(errors) + 1) * level)), len(errors))
    return float(np.sort(errors)[rank - 1])
