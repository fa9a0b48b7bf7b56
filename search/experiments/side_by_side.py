"""Ladder: models before and after each thing that can be done to them, measured side by side.

All are timed in turn, so that whatever slows the machine slows all of them alike. See `rungs` for
the models.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from ...cost_models import CostModel, Device
from ...cost_models.runtimes import Compiled, open_runtime
from ...cost_models.standalone.energy_meter import NVIDIA
from ...cost_models.standalone.runner import CLOCKS, peak_mb
from ...cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from ...spaces import Candidate
from ...spaces.networks import Network
from ..data.dataset import Data, resized
from ..delivery.artifact import CANDIDATE, WEIGHTS, load_network
from ..delivery.export import build_for
from ..delivery.formats import format_of
from ..delivery.verify import footprint_of
from ..store.atomic_files import write_atomic
from ..training.accuracy import accuracy

BATCHES = (1, 2, 4, 8)
ROUNDS = 15


@dataclass(frozen=True)
class Rung:
    """A model to be measured.

    Attributes:
        name: what was done.
        candidate: what it is.
        network: plain, trained.
        eager: whether PyTorch runs it, instead of the device's runtime.
        compensate: whether norms and biases make up for what rounding shifts.
    """

    name: str
    candidate: Candidate
    network: Network
    eager: bool = False
    compensate: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of the table.

    Attributes:
        name: what was done.
        key: of the candidate.
        runtime: that ran it.
        accuracy: on the validation split, in that runtime.
        accuracy_low: lower end of its 95% interval.
        accuracy_high: upper end.
        latency_ms: median of one image.
        latency_p10_ms: its tenth percentile.
        latency_p90_ms: its ninetieth percentile.
        throughput: batch -> images a second.
        peak_memory_mb: growth of a fresh process that runs it.
        size_mb: of its file.
    """

    name: str
    key: str
    runtime: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    throughput: Mapping[int, float]
    peak_memory_mb: float
    size_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def climb(
    rungs: Sequence[Rung], model: CostModel, device: Device, data: Data, count: int
) -> list[Measured]:
    """Measure models side by side, in all batch sizes.

    Args:
        rungs: what to measure.
        model: its recipes settle how a precision is stored.
        device: where they run; PyTorch gets as many threads.
        data: for accuracy and calibration.
        count: calibration images.

    Raises:
        CostError: the runtime refuses a graph.
        RunError: there are too few calibration images.
    """
    split = data.split("validation")
    compiled: list[Compiled] = []
    inputs: list[np.ndarray] = []
    facts: list[tuple[float, float]] = []
    for rung in rungs:
        size = rung.candidate.architecture.input_size
        images = resized(split.images, size).numpy()
        build = build_for(
            device, rung.candidate, rung.network, model.recipes, data, count, rung.compensate
        )
        for batch in BATCHES:
            inputs.append(np.resize(images, (batch, *images.shape[1:])))
            place = _on(device, batch, rung.eager)
            if rung.eager:
                compiled.append(open_runtime(place).compile(rung.network))
                continue
            content = format_of(place).encode(build, place, None)
            compiled.append(open_runtime(place).compile(content))
            if batch == 1:
                facts.append((footprint_of(content, place).growth_mb, len(content) / 1e6))
        if rung.eager:
            facts.append(_eager_facts(rung))
    clock = CLOCKS[device.clock]
    session = measure_session(compiled, inputs, ROUNDS, clock=clock, heat_ms=NETWORK_HEAT_MS)
    rows: list[Measured] = []
    for i, rung in enumerate(rungs):
        first, here = i * len(BATCHES), session.timings[i * len(BATCHES) : (i + 1) * len(BATCHES)]
        images = resized(split.images, rung.candidate.architecture.input_size).numpy()
        logits = np.concatenate([compiled[first].run(x[None]) for x in images])
        rows.append(
            Measured(
                rung.name,
                rung.candidate.key,
                "PyTorch eager" if rung.eager else device.runtime,
                **accuracy(torch.from_numpy(logits), split.labels),
                latency_ms=here[0].median_ms,
                latency_p10_ms=here[0].p10_ms,
                latency_p90_ms=here[0].p90_ms,
                throughput={
                    batch: 1e3 * batch / t.median_ms for batch, t in zip(BATCHES, here, strict=True)
                },
                peak_memory_mb=facts[i][0],
                size_mb=facts[i][1],
            )
        )
    return rows


def growth_here_mb(folder: str) -> float:
    """Peak growth of this process by a network in eager PyTorch; meant for a fresh process."""
    torch.set_num_threads(1)
    before = peak_mb()
    network = load_network(folder)
    a = network.architecture
    with torch.inference_mode():
        for _ in range(3):
            network(torch.zeros(1, a.in_chans, a.input_size, a.input_size))
    return peak_mb() - before


def _eager_facts(rung: Rung) -> tuple[float, float]:
    """Memory and size of a network as PyTorch keeps it."""
    weights = save(rung.network.state_dict())
    probe = f"from {__name__} import growth_here_mb as f\nimport sys\nprint(f(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as folder:
        write_atomic(Path(folder) / CANDIDATE, rung.candidate.to_json())
        write_atomic(Path(folder) / WEIGHTS, weights)
        done = subprocess.run(
            [sys.executable, "-c", probe, folder], capture_output=True, text=True, check=True
        )
    return float(done.stdout), len(weights) / 1e6


def _on(device: Device, batch: int, eager: bool) -> Device:
    if not eager:
        return replace(device, batch=batch)
    provider = "cuda" if device.chip == NVIDIA else "cpu"
    return replace(device, runtime="torch", provider=provider, batch=batch, recipes=("float",))
