"""Memory: what a process grows by when it loads and runs a model.

growth = base + a x weights as loaded + b x live activations + c x bytes of the file. Weights and
live activations are arithmetic; the runtime's own overhead is fitted to fresh processes. A few of
them tell the base, and small networks hardly more: where nothing else is known, a byte that is
needed is a byte of growth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .regress import nnls

Array = NDArray[np.float64]
_ERROR = 0.1  # relative, of the right coefficients: allocators do as they like
_DEPARTURE = 1.0  # expected, of a coefficient from its default


@dataclass
class MemoryModel:
    """Coefficients of a process's growth.

    Attributes:
        base_mb: of the runtime itself, for an empty model; 0 where no process was measured, so
            that the growth is the least that there can be.
        per_loaded: for each byte of weights as the kernels use them.
        per_live: for each byte of activations that live at once.
        per_stored: for each byte of weights as stored.
    """

    base_mb: float = 0.0
    per_loaded: float = 1.0
    per_live: float = 1.0
    per_stored: float = 0.0

    def predict(self, loaded_mb: Array, live_mb: Array, stored_mb: Array) -> Array:
        """Growth in MB."""
        return (
            self.base_mb
            + self.per_loaded * loaded_mb
            + self.per_live * live_mb
            + self.per_stored * stored_mb
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def fit_memory(loaded_mb: Array, live_mb: Array, stored_mb: Array, growth_mb: Array) -> MemoryModel:
    """Non-negative coefficients from measured growths, by relative errors.

    Ridge regression towards the defaults of `MemoryModel`, with a base that is free.

    Args:
        loaded_mb: weights as the kernels use them, of each network measured; at least one.
        live_mb: activations that live at once.
        stored_mb: weights as stored.
        growth_mb: what the process grew by.
    """
    prior = MemoryModel()
    usual = np.array([0.0, prior.per_loaded, prior.per_live, prior.per_stored])
    design = np.column_stack([np.ones(len(growth_mb)), loaded_mb, live_mb, stored_mb])
    pull = _ERROR / _DEPARTURE * np.eye(4)[1:]
    found = nnls(
        np.vstack([design / growth_mb[:, None], pull]),
        np.concatenate([np.ones(len(growth_mb)), pull @ usual]),
    )
    return MemoryModel(*(float(value) for value in found))
