"""Runtimes beside ONNX Runtime: how well each is predicted, and how fast it is, on one day.

All that are installed here. The bars are ONNX Runtime's own figures of the same run, and 2 points.
VITPARETO_SPACE names the space.
"""

import os

import numpy as np
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtimes import available, find_runtime, open_runtime
from vitpareto.cost_models.standalone.runner import CLOCKS, laid_out
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from vitpareto.spaces import Candidate, SearchSpace

from ._row import HEADER, row
from .cost_models import calibration

CPU = ("1t", "litert", "ncnn", "executorch", "mnn", "openvino")
DEVICES = (*(f"cpu-{name}" for name in CPU), "node", "browser")
SPACE = os.environ.get("VITPARETO_SPACE", "cifar")
NETWORKS, ROUNDS = 12, 12


def main() -> None:
    """Print one table for each device, then their speeds."""
    torch.set_num_threads(1)
    print(HEADER)
    here = [name for name in DEVICES if not available(Device.load(name))]
    for name in here:
        calibration(SPACE, Device.load(name))
    speeds(here)


def speeds(names: list[str]) -> None:
    """Latency of the same float networks against the first device, timed in turn."""
    space = SearchSpace.from_yaml(SPACE)
    drawn = space.sample(NETWORKS, seed=7)
    candidates = [Candidate.uncompressed(candidate.architecture) for candidate in drawn]
    compiled, inputs = [], []
    rng = np.random.default_rng(0)
    for name in names:
        device = Device.load(name)
        bench, runtime, spec = Bench(device), open_runtime(device), find_runtime(device.runtime)
        for candidate in candidates:
            graph = bench.network(candidate, device.recipes)
            compiled.append(runtime.compile(graph.model))
            x = rng.standard_normal(graph.shape).astype(np.float32)
            inputs.append(laid_out(x, spec.channels_last))
    # Every runtime by the wall: some work in threads of their own.
    session = measure_session(
        compiled, inputs, ROUNDS, clock=CLOCKS["wall"], heat_ms=NETWORK_HEAT_MS
    )
    times = np.array([timing.median_ms for timing in session.timings]).reshape(len(names), -1)
    for name, ratios in zip(names, times / times[0], strict=True):
        low, middle, high = np.quantile(ratios, (0, 0.5, 1))
        row(f"{SPACE}: {name} against {names[0]}", f"{middle:.2f} x", f"{low:.2f} to {high:.2f}")


if __name__ == "__main__":
    main()
