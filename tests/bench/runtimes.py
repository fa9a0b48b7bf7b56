"""Runtimes beside ONNX Runtime: how well each is predicted, and how fast it is, in one run.

`python -m tests.bench runtimes [--networks 40] [--budget-s 120] [--space cifar]` takes all that are
installed here, each calibrated for what it can run of the space. Then fresh networks are timed in
turns, some of one runtime and some of the next, twice: how far the two times are apart is the noise
floor. Bars are ONNX Runtime's own figures of the same run, and 2 points.
"""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.measure.runnable import left_out, runnable
from vitpareto.cost_models.runtimes import available, find_runtime, open_runtime
from vitpareto.cost_models.standalone.runner import CLOCKS, laid_out
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError

from ._prediction import Calibrated, calibrated, figures_of, timed_in_turns
from ._row import HEADER, row

ORIGIN = "cpu-1t"
CPU = ("litert", "ncnn", "executorch", "mnn", "openvino")
DEVICES = (*(f"cpu-{name}" for name in CPU), "node", "browser", "browser-litert")
COMPARED, ROUNDS = 12, 12  # networks whose latency is compared, and rounds of them
# What is printed: its name in `figures_of`, unit, and how far from ONNX Runtime's the bar is.
FIGURES = (
    ("mape", "MAPE", " %", 2.0),
    ("within_10", "within 10 %", " %", -2.0),
    ("spearman", "Spearman", "", -0.02),
    ("coverage_of_90", "90 % intervals cover", " %", -2.0),
)


def main(words: Sequence[str] = ()) -> None:
    """Print one table for each device, then their speeds."""
    parser = ArgumentParser("python -m tests.bench runtimes")
    parser.add_argument("--networks", type=int, default=40, help="fresh ones of each device")
    parser.add_argument("--budget-s", type=float, default=120.0, help="of each calibration")
    parser.add_argument("--space", default="cifar")
    parser.add_argument("--devices", nargs="*", default=DEVICES, help=f"beside {ORIGIN}")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    done: list[Calibrated] = []
    for name in (ORIGIN, *asked.devices):
        device = Device.load(name)
        if reason := available(device):
            print(reason)
            continue
        try:
            one = calibrated(asked.space, device, asked.networks, asked.budget_s)
        except CostError as error:
            print(f"{name}: {error}")
            continue
        for line in filter(None, [left_out(device, one.left_out), *one.refused]):
            print(line)
        done.append(one)
    print(HEADER)
    times = timed_in_turns(done)
    origin = figures_of(done[0], times[ORIGIN])
    for one in done:
        table(f"{asked.space}, {one.device.name}", one, times[one.device.name], origin)
    speeds(asked.space, [one.device for one in done], min(COMPARED, asked.networks))


def table(
    name: str, one: Calibrated, times: Sequence[dict[str, float]], origin: Mapping[str, float]
) -> None:
    """Figures of one device beside their bars."""
    found = figures_of(one, times)
    row(f"{name}: calibration", f"{one.took_s:.0f} s")
    drawn = len(one.fresh) + len(one.refused)
    row(f"{name}: fresh networks that it took", f"{found['timed']} of {drawn}")
    for key, what, unit, points in FIGURES:
        digits = 2 if unit else 4
        sign = "<=" if points > 0 else ">="
        bar = f"{sign} {max(origin[key] + points, 0):.{digits}f}{unit}"
        floor = f"{found['floor']:.2f} %" if key == "mape" else ""
        row(f"{name}: {what}", f"{found[key]:.{digits}f}{unit}", bar, floor)


def speeds(space_name: str, devices: Sequence[Device], networks: int) -> None:
    """Latency of the same float networks, which all of them run, against the first device."""
    space = SearchSpace.from_yaml(space_name)
    for device in devices:
        space, _ = runnable(device, space)
    drawn = space.sample(networks, seed=7)
    candidates = [Candidate.uncompressed(candidate.architecture) for candidate in drawn]
    compiled, inputs = [], []
    rng = np.random.default_rng(0)
    for device in devices:
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
    times = np.array([timing.median_ms for timing in session.timings]).reshape(len(devices), -1)
    for device, ratios in zip(devices, times / times[0], strict=True):
        low, middle, high = np.quantile(ratios, (0, 0.5, 1))
        what = f"{space_name}: {device.name} against {devices[0].name}"
        row(what, f"{middle:.2f} x", "", f"{low:.2f} to {high:.2f} x")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
