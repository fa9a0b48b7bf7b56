"""How well cost models predict: here on fresh networks, and on public tables where they are.

Every figure has the noise floor beside it: how far two processes that time the same networks on
the same machine are apart. Public tables are looked for in the folder named by VITPARETO_DATA.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vitpareto.cost_models import CostModel, Device, calibrate
from vitpareto.cost_models import drift as drifts
from vitpareto.cost_models.bench import Bench
from vitpareto.cost_models.capability import capabilities
from vitpareto.cost_models.importers import (
    ForeignTable,
    read_hat,
    read_matrix,
    read_nnmeter_blocks,
)
from vitpareto.cost_models.regress import Regressor, matrix_of, nnls
from vitpareto.cost_models.stats import accuracy, mape, within
from vitpareto.cost_models.transfer import farthest, transfer
from vitpareto.spaces import SearchSpace

BUDGET_S = float(os.environ.get("VITPARETO_BUDGET_S", "180"))
FRESH = 40


def main() -> None:
    """Print one table: what, figure, bar."""
    torch.set_num_threads(1)
    print(f"{'':58} {'figure':>12}   bar")
    for name in ("deit_tiny", "cifar"):
        calibration(name)
    kernels()
    folder = os.environ.get("VITPARETO_DATA")
    if folder is None:
        print("public tables: set VITPARETO_DATA to the folder that holds them")
        return
    blocks(Path(folder) / "nnmeter_vit_lut" / "vit_block_lut.csv.gz")
    transformers(Path(folder) / "hat")
    phones(Path(folder) / "mobile_ml_benchmark")


def row(what: str, figure: str, bar: str = "") -> None:
    print(f"{what:58} {figure:>12}   {bar}", flush=True)


def calibration(name: str) -> None:
    """Calibrate, then time fresh networks in processes of their own, twice."""
    space, device = SearchSpace.from_yaml(name), Device.load("cpu-1t")

    def tell(share: float, text: str) -> None:
        print(f"\r{name}: {share:4.0%} {text:60}", end="", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.json"
        begun = time.monotonic()
        calibrate(device, space, BUDGET_S, out=out, progress=tell)
        took = time.monotonic() - begun
        model = CostModel.load(out)
        usual = np.median([float(line.split(",")[-3]) for line in _lines(out.with_suffix(".csv"))])
    fresh = space.sample(FRESH, seed=987_654)
    bench = Bench(device, seed=1)
    graphs = [bench.network(candidate, model.recipes) for candidate in fresh]
    levels: list[np.ndarray] = []
    for _ in range(2):
        rows = [r for i in range(0, FRESH, 10) for r in bench.time(graphs[i : i + 10], rounds=20)]
        levels.append(np.array([r.median_ms * usual / r.anchor_ms for r in rows]))
    found = accuracy(np.sqrt(levels[0] * levels[1]), model.predict(fresh))
    print(file=sys.stderr)
    row(f"{name}: calibration", f"{took:.0f} s", f"{BUDGET_S:.0f} s")
    row(f"{name}: noise floor between two processes", f"{mape(levels[0], levels[1]):.2f} %")
    row(f"{name}: MAPE of {FRESH} fresh networks", f"{found['mape']:.2f} %", "3 %")
    row(f"{name}: within 10 %", f"{found['within_10']:.1f} %", "98 %")
    row(f"{name}: Spearman", f"{found['spearman']:.4f}", "0.99")
    row(f"{name}: 90 % intervals cover", f"{found['coverage_of_90']:.1f} %", "85 to 95 %")
    sizes = np.array([graph.graph_bytes for graph in graphs]) / 1e6
    predicted = model.predict(fresh)
    row(f"{name}: size, largest error", f"{np.abs(predicted.size_mb / sizes - 1).max():.2%}", "0 %")
    grown = np.array([bench.growth_mb(graph) for graph in graphs[:10]])
    errors = np.abs(predicted.peak_memory_mb[:10] / grown - 1)
    row(f"{name}: peak memory, median error", f"{np.median(errors):.1%}", "10 %")
    many = space.sample(5000, seed=5)
    begun = time.process_time()
    model.predict(many)
    row(
        f"{name}: predicted in a batch",
        f"{5000 / (time.process_time() - begun):,.0f} /s",
        "20,000 /s",
    )


def _lines(path: Path) -> list[str]:
    lines = [x for x in path.read_text().splitlines() if not x.startswith("#")][1:]
    return [line for line in lines if line.startswith("unit")]


def kernels() -> None:
    """The fastest recipe of each kind of sub-block at 8 bits."""
    found = capabilities(Device.load("cpu-1t"))
    for kind in dict.fromkeys(entry.kind for entry in found):
        best = max((c for c in found if c.kind == kind and c.recipe.endswith("8")),
                   key=lambda c: c.speedup)  # fmt: skip
        row(f"{kind}: {best.recipe} against float32", f"{best.speedup:.2f} x")


def blocks(path: Path) -> None:
    """ViT blocks on phones (nn-Meter): few samples, and another phone."""
    table = read_nnmeter_blocks(path)
    bars = {"transattn": 5.2, "transffn": 2.7, "transds": 3.3, "conv": 4.1}
    for group, bar in bars.items():
        part = table.of_group(group)
        errors = [few(part, device, 50, seed) for device in part.ms for seed in range(3)]
        row(f"nn-Meter {group}, 50 samples: MAPE", f"{np.mean(errors):.2f} %", f"{bar} %")
    errors = [
        moved(table.of_group(group), device, 10, seed)
        for device in table.ms
        for group in bars
        for seed in range(3)
    ]
    row("nn-Meter, a phone left out, 10 samples a block kind", f"{np.mean(errors):.2f} %", "4.1 %")


def few(table: ForeignTable, device: str, count: int, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(table))
    train, test = table.rows(order[:count]), table.rows(order[count : count + 500])
    model = Regressor.fit(train.terms, train.numbers, train.ms[device])
    return mape(test.ms[device], model.predict(test.terms, test.numbers).ms)


def moved(table: ForeignTable, device: str, count: int, seed: int) -> float:
    sources = np.array([ms for name, ms in table.ms.items() if name != device])
    order = np.random.default_rng(seed).permutation(len(table))
    found = transfer(sources, order[:count], table.ms[device][order[:count]])
    return mape(table.ms[device][order[count:]], found[order[count:]])


def transformers(folder: Path) -> None:
    """HAT's Transformers: its own split, and with the steps of its machines divided out."""
    own: list[float] = []
    close: list[float] = []
    for path in sorted(folder.glob("*.csv")):
        table = read_hat(path)
        (device,) = table.ms
        ms, terms = table.ms[device], matrix_of(table.terms, list(table.terms[0]))

        def fit(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return nnls(rows / values[:, None], np.ones(len(values)))

        train = slice(0, 1600)
        flat, speed = drifts.undrifted(ms[train], lambda v, t=terms[train]: t @ fit(v, t))
        guess = terms[1800:] @ fit(flat, terms[train]) * speed[-1]
        own.append(mape(ms[1800:], guess))
        close.append(within(ms[1800:], guess, 0.1))
        flat, speed = drifts.undrifted(ms, lambda v, t=terms: t @ fit(v, t))
        order = np.random.default_rng(1).permutation(len(ms))
        some = table.rows(order[:400])
        model = Regressor.fit(some.terms, some.numbers, flat[order[:400]])
        rest = table.rows(order[1600:])
        error = mape(flat[order[1600:]], model.predict(rest.terms, rest.numbers).ms)
        name = path.stem.removesuffix("_all")
        row(f"HAT {name}: steps found", f"{drifts.size(speed):.0%}")
        row(f"HAT {name}: MAPE without them", f"{error:.2f} %")
    row("HAT, own split: mean MAPE", f"{np.mean(own):.2f} %", "2.6 % over one set more")
    row("HAT, own split: within 10 %", f"{np.mean(close):.1f} %", "97.9 %")


def phones(folder: Path) -> None:
    """Real ViTs on phones: 10 measurements on one, and others that are known."""
    for runtime, others, cores in (("torch", 4.7, 2.4), ("tflite", 3.1, 1.7)):
        table = read_matrix(folder / f"{runtime}_transformer_e2e.csv")
        for what, bar in (("other phones", others), ("other cores", cores)):
            errors = [
                error
                for device in table.ms
                if (error := from_others(table, device, what == "other phones")) is not None
            ]
            label = f"{runtime} ViTs from {what}, 10 samples: median MAPE"
            row(label, f"{np.median(errors):.2f} %", f"{bar} %")


def from_others(table: ForeignTable, device: str, phones: bool) -> float | None:
    phone, core, precision = device.split("|")
    sources = [
        name
        for name, ms in table.ms.items()
        if name != device
        and name.split("|")[2] == precision
        and "gpu" not in (name.split("|")[1], core)
        and (name.split("|")[0] != phone) == phones
        and np.isfinite(ms).mean() >= 0.7
    ]
    if not sources:
        return None
    every = np.array([table.ms[name] for name in [*sources, device]])
    every = every[:, np.isfinite(every).all(0)]
    if every.shape[1] < 18:
        return None
    at = np.array(farthest(every[:-1], 10))
    rest = np.setdiff1d(np.arange(every.shape[1]), at)
    return mape(every[-1, rest], transfer(every[:-1], at, every[-1, at])[rest])


if __name__ == "__main__":
    main()
