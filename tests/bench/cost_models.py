"""Errors of cost models: on fresh networks here, and on public tables where they are.

Figures of fresh networks have the noise floor beside them: the difference of two processes that
time the same networks on the same machine. Public tables are looked for in the folder named by
VITPARETO_DATA.
"""

import os
import time

import numpy as np
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.capabilities import capabilities

from . import _public_tables
from ._prediction import calibrated, figures_of, timed_in_turns
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
    one = calibrated(space_name, device, FRESH, BUDGET_S)
    figures = figures_of(one, timed_in_turns([one])[device.name])
    floor = f"{figures['floor']:.2f} %"
    row(f"{name}: calibration", f"{one.took_s:.0f} s", f"{BUDGET_S:.0f} s")
    row(f"{name}: MAPE of {FRESH} fresh networks", f"{figures['mape']:.2f} %", "3 %", floor)
    row(f"{name}: within 10 %", f"{figures['within_10']:.1f} %", "98 %")
    row(f"{name}: Spearman", f"{figures['spearman']:.4f}", "0.99")
    row(f"{name}: 90 % intervals cover", f"{figures['coverage_of_90']:.1f} %", "85 to 95 %")
    sizes = np.array([graph.graph_bytes for graph in one.graphs]) / 1e6
    predicted = one.model.predict(list(one.fresh.values()))
    row(f"{name}: size, largest error", f"{np.abs(predicted.size_mb / sizes - 1).max():.2%}", "0 %")
    grown = np.array([one.bench.footprint(graph).growth_mb for graph in one.graphs[:10]])
    errors = np.abs(predicted.peak_memory_mb[:10] / grown - 1)
    row(f"{name}: peak memory, median error", f"{np.median(errors):.1%}", "10 %")
    many = one.space.sample(BATCH, seed=5)
    begun = time.process_time()
    one.model.predict(many)
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
