"""Predictions of cost models beside times of fresh networks, of several devices in turns."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitpareto.cost_models import CostModel, Device, calibrate
from vitpareto.cost_models.measure.bench import MODELS, Bench, TimedGraph
from vitpareto.cost_models.measure.runnable import Refusal, runnable
from vitpareto.cost_models.predict.error_figures import accuracy, mape
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError

ROUNDS, TIMES, SEED = 20, 2, 987_654


@dataclass(frozen=True)
class Calibrated:
    """A device with its cost model, and fresh networks of what it runs of a space.

    Attributes:
        device: that was calibrated.
        space: what it runs of the space.
        left_out: what it does not.
        model: its cost model.
        took_s: wall time of the calibration.
        bench: times its networks.
        fresh: key -> network, of those that it takes.
        graphs: of these.
        refused: why it does not take the others.
    """

    device: Device
    space: SearchSpace
    left_out: list[Refusal]
    model: CostModel
    took_s: float
    bench: Bench
    fresh: dict[str, Candidate]
    graphs: list[TimedGraph]
    refused: list[str]


def calibrated(space_name: str, device: Device, networks: int, budget_s: float) -> Calibrated:
    """Calibrate for what a device runs of a space, and draw networks that were not measured."""

    def tell(share: float, text: str) -> None:
        print(f"\r{space_name}, {device.name}: {share:4.0%} {text:60}", end="", file=sys.stderr)

    space, left_out = runnable(device, SearchSpace.from_yaml(space_name))  # some hold no 4 bits
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.json"
        begun = time.monotonic()
        calibrate(device, space, budget_s, out=out, progress=tell)
        took_s = time.monotonic() - begun
        model = CostModel.load(out)
    print(file=sys.stderr)
    bench = Bench(device, seed=1)
    fresh, graphs, refused = dict[str, Candidate](), list[TimedGraph](), list[str]()
    for candidate in space.sample(networks, seed=SEED):
        try:
            graph = bench.network(candidate, model.recipes)
        except CostError as error:
            refused.append(str(error))
            continue
        fresh[graph.key] = candidate
        graphs.append(graph)
    return Calibrated(device, space, left_out, model, took_s, bench, fresh, graphs, refused)


def timed_in_turns(those: Sequence[Calibrated]) -> dict[str, list[dict[str, float]]]:
    """Device -> times of its fresh networks in ms at the pace of its model, by key; several times.

    A few networks of one device are timed in a process of their own, then a few of the next, so
    that all of them meet the same machine.
    """
    times = {one.device.name: [dict[str, float]() for _ in range(TIMES)] for one in those}
    for turn in range(TIMES):
        for begin in range(0, max(len(one.graphs) for one in those), MODELS):
            for one in those:
                graphs = one.graphs[begin : begin + MODELS]
                for row in one.bench.time(graphs, ROUNDS) if graphs else []:
                    ms = row.median_ms * row.speed(one.model.pace)
                    times[one.device.name][turn][row.key] = ms
    return times


def figures_of(one: Calibrated, times: Sequence[dict[str, float]]) -> dict[str, float]:
    """Figures of `error_figures.accuracy`, the noise floor in percent, and how many were timed."""
    keys = [key for key in one.fresh if all(key in turn for turn in times)]
    first, second = (_levels(turn, keys) for turn in times)
    predicted = one.model.predict([one.fresh[key] for key in keys])
    figures = accuracy(np.sqrt(first * second), predicted)
    return {**figures, "floor": mape(first, second), "timed": len(keys)}


def _levels(times: dict[str, float], keys: Sequence[str]) -> NDArray[np.float64]:
    return np.array([times[key] for key in keys])
