"""Errors of cost models: on fresh networks here, and on public tables where they are.

Figures of fresh networks have the noise floor beside them: the difference of two processes that
time the same networks on the same machine. Public tables are looked for in the folder named by
VITPARETO_DATA.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vitpareto.cost_models import CostModel, Device, calibrate
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.measure.capabilities import capabilities
from vitpareto.cost_models.measure.runnable import runnable
from vitpareto.cost_models.predict.error_figures import accuracy, mape
from vitpareto.spaces import SearchSpace

from . import _public_tables
from ._row import HEADER, row

BUDGET_S = float(os.environ.get("VITPARETO_BUDGET_S", "180"))
FRESH = 40
BATCH = 20_000


def main() -> None:
    """Print one table: name, figure, bar, noise floor."""
    torch.set_num_threads(1)
    print(HEADER)
    for name in ("deit_tiny", "cifar"):
        calibration(name, Device.load("cpu-1t"))
    kernels()
    _public_tables.main()


def calibration(space_name: str, device: Device) -> None:
    """Calibrate, then time fresh networks in processes of their own, twice."""
    name = f"{space_name}, {device.name}"
    space, _ = runnable(device, SearchSpace.from_yaml(space_name))  # some hold no 4 bits

    def tell(share: float, text: str) -> None:
        print(f"\r{name}: {share:4.0%} {text:60}", end="", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.json"
        begun = time.monotonic()
        calibrate(device, space, BUDGET_S, out=out, progress=tell)
        took = time.monotonic() - begun
        model = CostModel.load(out)
    fresh = space.sample(FRESH, seed=987_654)
    bench = Bench(device, seed=1)
    graphs = [bench.network(candidate, model.recipes) for candidate in fresh]
    levels: list[np.ndarray] = []
    for _ in range(2):
        rows = [r for i in range(0, FRESH, 10) for r in bench.time(graphs[i : i + 10], rounds=20)]
        levels.append(np.array([r.median_ms * r.speed(model.pace) for r in rows]))
    figures = accuracy(np.sqrt(levels[0] * levels[1]), model.predict(fresh))
    print(file=sys.stderr)
    floor = f"{mape(levels[0], levels[1]):.2f} %"
    row(f"{name}: calibration", f"{took:.0f} s", f"{BUDGET_S:.0f} s")
    row(f"{name}: MAPE of {FRESH} fresh networks", f"{figures['mape']:.2f} %", "3 %", floor)
    row(f"{name}: within 10 %", f"{figures['within_10']:.1f} %", "98 %")
    row(f"{name}: Spearman", f"{figures['spearman']:.4f}", "0.99")
    row(f"{name}: 90 % intervals cover", f"{figures['coverage_of_90']:.1f} %", "85 to 95 %")
    sizes = np.array([graph.graph_bytes for graph in graphs]) / 1e6
    predicted = model.predict(fresh)
    row(f"{name}: size, largest error", f"{np.abs(predicted.size_mb / sizes - 1).max():.2%}", "0 %")
    grown = np.array([bench.footprint(graph).growth_mb for graph in graphs[:10]])
    errors = np.abs(predicted.peak_memory_mb[:10] / grown - 1)
    row(f"{name}: peak memory, median error", f"{np.median(errors):.1%}", "10 %")
    many = space.sample(BATCH, seed=5)
    begun = time.process_time()
    model.predict(many)
    speed = BATCH / (time.process_time() - begun)
    row(f"{name}: predicted in a batch of {BATCH:,}", f"{speed:,.0f} /s", "20,000 /s")


def kernels() -> None:
    """The fastest recipe of each kind of sub-block at 8 bits."""
    entries = capabilities(Device.load("cpu-1t"))
    for kind in dict.fromkeys(entry.kind for entry in entries):
        best = max((c for c in entries if c.kind == kind and c.recipe.endswith("8")),
                   key=lambda c: c.speedup)  # fmt: skip
        row(f"{kind}: {best.recipe} against float32", f"{best.speedup:.2f} x")


if __name__ == "__main__":
    main()
