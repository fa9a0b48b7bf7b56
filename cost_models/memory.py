"""Memory: what a process grows by when it loads and runs a model.

growth = base + a x weights as loaded + b x live activations + c x bytes of the file. Weights and
live activations are arithmetic; the runtime's own overhead is fitted to fresh processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spaces.errors import CostError
from .regress import nnls

Array = NDArray[np.float64]


@dataclass
class MemoryModel:
    """Coefficients of a process's growth.

    Attributes:
        base_mb: of the runtime itself, for an empty model.
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
    """Non-negative coefficients from measured growths, by relative errors."""
    design = np.column_stack([np.ones(len(growth_mb)), loaded_mb, live_mb, stored_mb])
    found = nnls(design / growth_mb[:, None], np.ones(len(growth_mb)))
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
    before = peak_mb()
    graph: Any = runtime.compile(path)
    x = np.zeros(graph.input_shape, np.float32)
    for _ in range(3):
        graph.run(x)
    return peak_mb() - before


def peak_mb() -> float:
    """Largest resident size of this process in MB of 10^6 bytes.

    Since its start, or since /proc/self/clear_refs was told to forget it.
    """
    status = Path("/proc/self/status")
    if status.exists():  # the only counter that a child does not inherit from its parent
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6
