"""Memory: growth of a process that loads and runs a model.

growth = base + a x weights as loaded + b x what was added to them at load + c x live activations +
d x sub-blocks. All but the coefficients is arithmetic: a runtime keeps packed copies of weights,
expands those that its kernels do not take as they are stored, and has objects for every node.

The coefficients are fitted to fresh processes. A few of them tell the base, and small networks
hardly more, so that the rest begins at what ONNX Runtime 1.32 needed for 130 networks of three
spaces; ten processes then predict others to 2 to 5% (median), of a growth that repeats to 1%.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .regressor import nnls

Array = NDArray[np.float64]
_ERROR = 0.05  # relative, of the right coefficients: allocators do as they like


@dataclass
class MemoryModel:
    """Coefficients of a process's growth.

    The defaults are for when no process was measured: the least that there can be.

    Attributes:
        base_mb: of the runtime itself, for an empty model.
        per_loaded: for each byte of weights as the kernels use them.
        per_added: for each byte of these that is not in the file.
        per_live: for each byte of activations that live at once.
        per_block_mb: for each sub-block.
    """

    base_mb: float = 0.0
    per_loaded: float = 1.0
    per_added: float = 0.0
    per_live: float = 1.0
    per_block_mb: float = 0.0

    def predict(self, loaded_mb: Array, stored_mb: Array, live_mb: Array, blocks: Array) -> Array:
        """Growth in MB."""
        return _design(loaded_mb, stored_mb, live_mb, blocks) @ np.array(astuple(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return asdict(self)


_USUAL = MemoryModel(0.0, 1.4, 0.7, 2.5, 0.2)
_DEPARTURE = np.array([0.5, 0.7, 1.0, 0.2])  # expected, from all of these but the base


def _design(loaded_mb: Array, stored_mb: Array, live_mb: Array, blocks: Array) -> Array:
    added_mb = np.maximum(loaded_mb - stored_mb, 0.0)
    return np.column_stack([np.ones(len(loaded_mb)), loaded_mb, added_mb, live_mb, blocks])


def fit_memory(
    loaded_mb: Array, stored_mb: Array, live_mb: Array, blocks: Array, growth_mb: Array
) -> MemoryModel:
    """Non-negative coefficients from measured growths, by relative errors.

    Ridge regression toward what is usual, with a base that is free.

    Args:
        loaded_mb: weights as the kernels use them, of each network measured; at least one.
        stored_mb: weights as stored.
        live_mb: activations that live at once.
        blocks: how many sub-blocks.
        growth_mb: what the process grew by.
    """
    design = _design(loaded_mb, stored_mb, live_mb, blocks) / growth_mb[:, None]
    pull = np.column_stack([np.zeros(len(_DEPARTURE)), np.diag(_ERROR / _DEPARTURE)])
    usual = pull @ np.array(astuple(_USUAL))
    coefficients = nnls(np.vstack([design, pull]), np.concatenate([np.ones(len(growth_mb)), usual]))
    return MemoryModel(*(float(value) for value in coefficients))
