"""Delivery: accuracy of artifacts beside that in the search, and latency beside predictions.

`python -m tests.bench delivery` needs about six minutes on one quiet core.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.search.delivery.parity import HEADER as PAIRS
from tests.search.delivery.parity import pairs
from vitpareto.cost_models import CostModel, Device, calibrate
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.search.delivery.artifact import CANDIDATE, Artifact
from vitpareto.search.delivery.artifact_timing import graph_of
from vitpareto.search.delivery.export import random_build
from vitpareto.search.delivery.formats import format_of
from vitpareto.search.delivery.shortlist import time_graphs
from vitpareto.spaces import Candidate, SearchSpace

from ._row import HEADER, row

COUNT, TIMES = 30, 3
BUDGET_S = 180.0


def main() -> None:
    accuracies()
    latencies()


def accuracies() -> None:
    """The table of search-time against artifact accuracy."""
    measured = pairs(COUNT)
    gaps = [abs(pair.seen - pair.found) for pair in measured]
    exact = [pair for pair in measured if pair.exact]
    print("\n".join([PAIRS, *map(str, measured)]))
    print(HEADER)
    row(f"mean difference of accuracies, {COUNT} candidates", f"{np.mean(gaps):.2%}", "0.30%")
    row("largest difference", f"{max(gaps):.2%}", "")
    row("logits of float kernels against torch", f"{max(p.distance for p in exact):.1e}", "1e-4")
    row("agreement of float kernels", f"{min(p.agreement for p in exact):.2%}", "99.9%")


def latencies() -> None:
    """Share of models inside of their predicted interval when the gate first times them."""
    space, device = SearchSpace.from_yaml("digits"), Device.load("cpu-1t")
    model = calibrate(device, space, BUDGET_S, 0)
    candidates = space.sample(COUNT, seed=7)
    predicted = model.predict(candidates)
    inside: list[float] = []
    errors: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        artifacts = [artifact(Path(folder) / c.key, c, model, device) for c in candidates]
        graphs = [graph_of(a) for a in artifacts]
        for _ in range(TIMES):
            rows = time_graphs(Bench(device), graphs)
            ms = np.array([rows[c.key].median_ms for c in candidates])
            inside.append(float(((ms >= predicted.low_ms) & (ms <= predicted.high_ms)).mean()))
            errors.append(float(np.abs(ms / predicted.latency_ms - 1).mean()))
    half = np.log(predicted.high_ms / predicted.latency_ms).mean()
    row("inside of the 90% interval at first measurement", f"{inside[0]:.0%}", "90%")
    row("the same, all measurements", f"{np.mean(inside):.0%}", "90%")
    row("mean error of the prediction", f"{np.mean(errors):.1%}", "")
    row("half of an interval, mean", f"{half:.1%}", "")


def artifact(folder: Path, candidate: Candidate, model: CostModel, device: Device) -> Artifact:
    """A candidate with random weights, stored as the cost model says."""
    folder.mkdir()
    build = replace(random_build(device, candidate), recipes=model.recipes)
    form = format_of(device)
    (folder / CANDIDATE).write_text(candidate.to_json())
    (folder / form.file).write_bytes(form.encode(build, device, None))
    return Artifact.load(folder, device)
