"""Energy of a run above idle, from its latency and the weights that it loads.

energy = watts x latency + mJ for each MB of weights as the kernels use them. Both are fitted to
networks that a counter measured (see `energy_meter`), by relative errors, none below zero.
The latencies are predictions made without the network in question, so that the interval, the
conformal quantile of leave-one-out errors, holds for candidates whose latency is predicted too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import conformal
from .regressor import nnls

Array = NDArray[np.float64]
LEAST = 4  # networks, before anything is said


@dataclass
class EnergyModel:
    """Coefficients of the energy of a run.

    Attributes:
        watts: above idle, while it runs.
        per_loaded_mj: for each MB of weights as the kernels use them.
        half_width: of the interval, of the logarithm.
        networks: that were measured.
    """

    watts: float
    per_loaded_mj: float
    half_width: float
    networks: int

    def predict(self, latency_ms: Array, loaded_mb: Array) -> Array:
        """Energy of a run in mJ."""
        return self.watts * latency_ms + self.per_loaded_mj * loaded_mb

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return asdict(self)


def fit_energy(
    latency_ms: Array, loaded_mb: Array, energy_mj: Array, level: float
) -> EnergyModel | None:
    """Fit to measured networks; None where they are too few.

    Args:
        latency_ms: of each network, predicted without it.
        loaded_mb: its weights as the kernels use them.
        energy_mj: measured, above 0.
        level: share of networks that the interval is to hold.
    """
    if len(energy_mj) < LEAST:
        return None
    design = np.column_stack([latency_ms, loaded_mb]) / energy_mj[:, None]
    ones = np.ones(len(energy_mj))
    left_out = [
        design[i] @ nnls(np.delete(design, i, 0), np.delete(ones, i)) for i in range(len(ones))
    ]
    errors = np.abs(np.log(np.maximum(left_out, 1e-3)))
    watts, per_loaded = nnls(design, ones).tolist()
    return EnergyModel(watts, per_loaded, conformal.quantile(errors, level), len(ones))
