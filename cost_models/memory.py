"""Memory: what a process grows by when it loads and runs a model.

growth = base + a x weights as loaded + b x live activations + c x bytes of the file. Weights and
live activations are arithmetic; the runtime's own overhead is fitted to fresh processes. A few of
them tell the base, and small networks hardly more: where nothing else is known, a byte that is
needed is a byte of growth.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spaces.errors import CostError
from .regress import nnls
from .runner import growth_of, peak_mb

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


_PROBE = """
import json, sys
from vitpareto.cost_models.memory import growth_here
print(json.dumps(growth_here(json.loads(sys.argv[1]), sys.argv[2])))
"""


def process_growth_mb(device: dict[str, Any], path: str) -> float:
    """Peak growth of a fresh process that compiles a model file and runs it three times.

    Raises:
        CostError: it does not run.
    """
    command = [sys.executable, "-c", _PROBE, json.dumps(device), path]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CostError(f"the model does not run in a process of its own: {last}")
    return float(done.stdout)


def growth_here(device: dict[str, Any], path: str) -> float:
    """Peak growth of this process by one model, in MB; meant for a fresh process."""
    from .device import Device
    from .runtimes import open_runtime

    runtime = open_runtime(Device.from_dict(device))
    before_mb = peak_mb()
    graph: Any = runtime.compile(path)
    return growth_of(graph.run, graph.input_shape, before_mb)
