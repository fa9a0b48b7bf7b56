"""Footprint: memory and energy of running a model, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from ...spaces.errors import CostError, last_line
from ..device import Device
from ..openmp import usual_environment
from ..runtime_spec import find_runtime
from ..runtimes import open_runtime
from ..standalone.runner import energy_of, growth_of


class Footprint(NamedTuple):
    """Memory and energy of one model.

    Attributes:
        growth_mb: peak growth of a process that loads it and runs it three times.
        energy_mj: of one run above idle; 0 where no counter tells.
    """

    growth_mb: float
    energy_mj: float


def footprint(device: Device, *paths: str) -> Footprint:
    """Measure a model file in a fresh process, or where its runtime keeps one in fresh memory.

    Args:
        device: that runs it.
        paths: of the file; several are loaded together, and a run is one of each.

    Raises:
        CostError: it does not run.
    """
    if find_runtime(device.runtime).outside:
        return footprint_here(device, *paths)
    command = [sys.executable, "-m", __name__, json.dumps(device.to_dict()), *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=usual_environment())
    if done.returncode:
        last = last_line(done.stderr)
        raise CostError(f"the model does not run in a process of its own: {last}")
    return Footprint(*json.loads(done.stdout))


def footprint_here(device: Device, *paths: str) -> Footprint:
    """Measure model files in this process, which must be a fresh one."""
    runtime = open_runtime(device)
    runtime.renew()
    before_mb = runtime.peak_mb()
    graph, *others = [runtime.compile(path) for path in paths]
    inputs = [np.zeros(other.input_shape, np.float32) for other in others]

    def run_all(x: Any) -> None:
        graph.run(x)
        for other, given in zip(others, inputs, strict=True):
            other.run(given)

    run = run_all if others else graph.run
    growth_mb = growth_of(run, graph.input_shape, before_mb, runtime.peak_mb)
    return Footprint(growth_mb, energy_of(run, graph.input_shape, device.chip))


if __name__ == "__main__":
    print(json.dumps(footprint_here(Device.from_dict(json.loads(sys.argv[1])), *sys.argv[2:])))  # noqa: T201 - a script
