"""The proxy: training time of teacher and supernet, scoring speed, and how well scores rank.

`python -m tests.bench proxy` needs about ten minutes on a quiet machine with two cores; the
trainings of single candidates are kept in the folder `runs/bench-proxy` and not repeated.
"""

import json
import time
from pathlib import Path
from statistics import median

import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.bench.spaces import row
from vitpareto.search.config import load_config
from vitpareto.search.evaluate import Evaluator
from vitpareto.search.proxy import check_proxy
from vitpareto.search.run import Run, open_run
from vitpareto.spaces import Candidate
from vitpareto.spaces.networks import Network

CANDIDATES = 40
SCORED = 30


def main() -> None:
    config = load_config("digits", ["executor.threads=1"])
    with open_run(config, Path("runs") / "bench-proxy", True) as folder:
        run = Run(folder)
        evaluator = Evaluator(run.supernet, run.data.split("search"), run.data.split("train"))
        stages = json.loads(folder.stages.read_text())
        print(f"{'':58} {'figure':>14}   bar")
        row("teacher: seconds to train", f"{stages['teacher']['seconds']:.0f}", "120")
        row("teacher: validation accuracy", f"{stages['teacher']['accuracy']:.1%}", "98%")
        row("supernet: seconds to train", f"{stages['supernet']['seconds']:.0f}", "120")
        ours, naive = speeds(run, evaluator)
        row("scoring: ms a candidate, median", f"{1e3 * ours:.0f}", "50")
        row("scoring: times the naive way's candidates a second", f"{naive / ours:.1f}", "3")
        found = check_proxy(run, CANDIDATES)
    for label, name, bar in (
        ("Kendall's tau", "kendall_tau", "0.80, or 0.90 of what seeds allow"),
        ("what seeds allow", "noise_ceiling", ""),
        (f"ahead of {found['best_baseline']} alone", "advantage", "0.05"),
    ):
        low, value, high = (found[f"{name}{end}"] for end in ("_low", "", "_high"))
        row(f"{label} ({low:.2f} to {high:.2f})", f"{value:.2f}", bar)


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
    inherited = {name: value.clone() for name, value in run.supernet.inherit(candidate).items()}
    network.load_state_dict(network.state_dict() | inherited)
    network.eval()
    split = run.data.split("search")
    loader = DataLoader(TensorDataset(split.images, split.labels), batch_size=64)
    correct = sum(int((network(x).argmax(1) == y).sum()) for x, y in loader)
    return correct / len(split)
