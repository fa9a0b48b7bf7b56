"""The proxy: training times, scoring speed, and rank correlation of scores.

`python -m tests.bench proxy` needs about twenty minutes on a quiet machine with two cores, and
ten more where the images of the `cifar` preset are; trainings are kept in the folders
`runs/bench-proxy` and `runs/bench-cifar` and not repeated.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from vitpareto.search.config import load_config
from vitpareto.search.experiments.proxy_check import check_proxy
from vitpareto.search.run.assets import Run
from vitpareto.search.run.opening import open_run
from vitpareto.search.scoring.inherited import Evaluator
from vitpareto.search.scoring.scratch import ShortTraining
from vitpareto.spaces import Candidate
from vitpareto.spaces.networks import Network

from ._row import HEADER, row

SCORED = 30


def main() -> None:
    print(HEADER)
    config = load_config("digits", ["executor.threads=1"])
    with open_run(config, Path("runs") / "bench-proxy", True) as folder:
        run = Run(folder)
        evaluator = run.evaluator()
        stages = json.loads(folder.stages.read_text())
        row("teacher: seconds to train", f"{stages['teacher']['seconds']:.0f}", "120")
        row("teacher: validation accuracy", f"{stages['teacher']['accuracy']:.1%}", "98%")
        row("supernet: seconds to train", f"{stages['supernet']['seconds']:.0f}", "120")
        row("short trainings: seconds", f"{stages['forecast']['seconds']:.0f}", "")
        ours, naive = speeds(run, evaluator)
        row("inherited weights: ms a candidate, median", f"{1e3 * ours:.0f}", "50")
        row(
            "inherited weights: times the naive way's candidates a second",
            f"{naive / ours:.1f}",
            "3",
        )
        order(check_proxy(run, 40))
    config = load_config("cifar", ["executor.threads=1"])
    if not Path(config.data.root).expanduser().is_dir():
        print(f"cifar is left out: no folder {config.data.root}")
        return
    with open_run(config, Path("runs") / "bench-cifar", True) as folder:
        run = Run(folder)
        order(check_proxy(run, 16))
        inherited, alone = largest(run)
        text = f"{100 * inherited:.1f} / {100 * alone:.1f}"
        row("largest: accuracy inherited / alone with the same steps", text, "2 points")


def order(figures: Mapping[str, Any]) -> None:
    for label, name, bar in (
        ("Kendall's tau", "kendall_tau", "0.80, or 0.90 of what seeds allow"),
        ("what seeds allow", "noise_ceiling", ""),
        (f"ahead of {figures['best_baseline']} alone", "advantage", "0.05"),
    ):
        low, value, high = (figures[f"{name}{end}"] for end in ("_low", "", "_high"))
        row(f"{figures['space']}: {label} ({low:.2f} to {high:.2f})", f"{value:.2f}", bar)


def largest(run: Run) -> tuple[float, float]:
    """Validation accuracy of the largest candidate with shared weights, and trained alone."""
    config, validation = run.config.supernet, run.data.split("validation")
    candidate = run.space.largest()
    inherited = Evaluator(run.ensure_supernet(), validation, run.data.split("train"))(candidate)
    steps = run.ensure_lessons().steps(config.batch_size, config.epochs)
    alone = ShortTraining(run.ensure_lessons(), validation, config, steps, seed=1)(candidate)
    return inherited["accuracy"], alone["accuracy"]


def speeds(run: Run, evaluator: Evaluator) -> tuple[float, float]:
    """Seconds a candidate, ours and naive, taken in turns."""
    candidates = run.space.sample(SCORED, seed=1)
    times: dict[str, list[float]] = {"ours": [], "naive": []}
    for candidate in candidates:
        for name, score in (("ours", evaluator), ("naive", lambda c: naive_accuracy(run, c))):
            start = time.perf_counter()
            score(candidate)
            times[name].append(time.perf_counter() - start)
    return median(times["ours"]), median(times["naive"])


@torch.no_grad()
def naive_accuracy(run: Run, candidate: Candidate) -> float:
    """Build the module, copy the weights, evaluate in float32 with a DataLoader."""
    network = Network(candidate.architecture)
    inherited = {
        name: value.clone() for name, value in run.ensure_supernet().inherit(candidate).items()
    }
    network.load_state_dict(network.state_dict() | inherited)
    network.eval()
    split = run.data.split("search")
    loader = DataLoader(TensorDataset(split.images, split.labels), batch_size=64)
    correct = sum(int((network(x).argmax(1) == y).sum()) for x, y in loader)
    return correct / len(split)
