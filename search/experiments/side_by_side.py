"""Side by side: measurements of models before and after each technique.

All are timed in turn, so that whatever slows the machine slows all of them alike. See `ladder` for
the models.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from ...cost_models import CostModel, Device
from ...cost_models.runtimes import Compiled, find_runtime, open_runtime
from ...cost_models.runtimes.scratch import scratch
from ...cost_models.standalone.energy_meter import NVIDIA
from ...cost_models.standalone.runner import CLOCKS, laid_out, peak_mb
from ...cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from ...spaces import Candidate
from ...spaces.errors import CostError
from ...spaces.networks import Network
from ..compress.rewrites import REWRITES
from ..data.dataset import Data, resized
from ..delivery.artifact import CANDIDATE, WEIGHTS, answers_to, load_network, read_candidate
from ..delivery.claims import Metrics
from ..delivery.export import build_for
from ..delivery.formats import format_of
from ..delivery.manifest import SEARCHED, Manifest
from ..delivery.verify import footprint_of
from ..store.atomic_files import write_atomic
from ..training.accuracy import accuracy

EAGER = "PyTorch eager"
BATCHES = (1, 2, 4, 8)
ROUNDS = 15

log = logging.getLogger("vitpareto")


@dataclass(frozen=True)
class Entry:
    """A model to be measured.

    Attributes:
        name: of the technique.
        candidate: that is measured.
        network: plain, trained.
        eager: whether PyTorch runs it, instead of the device's runtime.
        compensate: whether norms and biases are corrected for rounding.
        rewrite: how it was made of another model: one of `rewrites.REWRITES`, or a precision.
        beside: name of that other model.
    """

    name: str
    candidate: Candidate
    network: Network
    eager: bool = False
    compensate: bool = False
    rewrite: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of a model of which some parts are in other operations or other bits.

    Attributes:
        name: of `rewrites.REWRITES`, or of a precision.
        exact: whether it is meant to leave the logits as they are, up to rounding; None for other
            bits.
        beside: name of the row of the model as it was.
        moved: size of the change of the logits relative to them, as the runtime computes both.
    """

    name: str
    exact: bool | None
    beside: str
    moved: float


@dataclass(frozen=True, slots=True)
class LadderRow:
    """A row of the ladder: measurements of one model.

    Attributes:
        name: of the technique.
        key: of the candidate.
        runtime: that ran it.
        accuracy: on the validation split, in that runtime.
        accuracy_low: lower end of its 95% interval.
        accuracy_high: upper end.
        balanced_accuracy: mean over the classes.
        balanced_accuracy_low: lower end of its 95% interval.
        balanced_accuracy_high: upper end.
        latency_ms: median of one run, of as many images as the device takes at once.
        latency_p10_ms: its tenth percentile.
        latency_p90_ms: its ninetieth percentile.
        throughput: batch -> images per second; of variants for the device's batch alone.
        peak_memory_mb: growth of a fresh process that runs it.
        size_mb: of its file.
        images_per_joule: above idle; None where no counter tells, as for PyTorch.
        speed: of the machine then, where 1 is that of the calibration; latencies and throughput
            are at that one.
        rewrite: of which row this is a variant, and how it was made; None for most.
    """

    name: str
    key: str
    runtime: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    balanced_accuracy: float
    balanced_accuracy_low: float
    balanced_accuracy_high: float
    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    throughput: Mapping[int, float]
    peak_memory_mb: float
    size_mb: float
    images_per_joule: float | None = None
    speed: float = 1.0
    rewrite: Rewritten | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def at_calibrated_speed(self, speed: float) -> LadderRow:
        """The row of a machine of such a speed, as it would have been at the calibration's."""
        return replace(
            self,
            latency_ms=self.latency_ms * speed,
            latency_p10_ms=self.latency_p10_ms * speed,
            latency_p90_ms=self.latency_p90_ms * speed,
            throughput={batch: rate / speed for batch, rate in self.throughput.items()},
            speed=speed,
        )


def entry_of(pareto: Path, manifest: Manifest) -> Entry:
    """A delivered model beside others.

    Raises:
        RunError: a file is missing or damaged.
    """
    folder = pareto / manifest.key
    name = f"{SEARCHED}{manifest.key}"
    network = load_network(folder)
    return Entry(name, read_candidate(folder), network, compensate=manifest.compensated)


def speed_beside(rows: Sequence[LadderRow], delivered: Sequence[Manifest]) -> float:
    """Speed of the machine while rows were measured, by the delivered models among them.

    It is 1 at the speed of the calibration. Rows of models with exits are of their whole network.
    """
    known = {SEARCHED + m.key: whole_ms(m, m.metrics) for m in delivered if m.metrics}
    ratios = [known[row.name] / row.latency_ms for row in rows if row.name in known]
    return median(ratios) if ratios else 1.0


def whole_ms(manifest: Manifest, metrics: Metrics) -> float:
    """Latency of a model where every image runs to its end, at the speed of the calibration."""
    if manifest.exits and manifest.exits.whole_ms:
        return manifest.exits.whole_ms * metrics.speed
    return metrics.calibrated_ms


def measure_entries(
    entries: Sequence[Entry],
    model: CostModel,
    device: Device,
    data: Data,
    count: int,
    batches: Sequence[int] = BATCHES,
) -> list[LadderRow]:
    """Measure models side by side; rows as the clock read them.

    Args:
        entries: models to measure; a rewritten one follows that of which it was made, and is
            measured at the device's batch alone.
        model: whose recipes decide how a precision is stored.
        device: that runs them; PyTorch gets as many threads. All but throughput is at its batch,
            as that of the delivered models is.
        data: for accuracy and calibration.
        count: calibration images.
        batches: other sizes of which the throughput is told.

    Raises:
        CostError: the runtime refuses a graph.
        RunError: there are too few calibration images.
    """
    split, every = data.split("validation"), [*dict.fromkeys([device.batch, *batches])]
    opened: list[tuple[Entry, _Opened]] = []
    for entry in entries:
        try:
            sizes = every[:1] if entry.rewrite else every
            opened.append((entry, _open(entry, model, device, data, count, sizes)))
        except CostError as error:
            if not entry.rewrite:
                raise
            log.info("ladder: %s without %s: %s", entry.beside, entry.rewrite, error)
    compiled = [one for _, each in opened for one in each.compiled]
    inputs = [one for _, each in opened for one in each.inputs]
    clock = CLOCKS[device.clock]
    session = measure_session(compiled, inputs, ROUNDS, clock=clock, heat_ms=NETWORK_HEAT_MS)
    rows: list[LadderRow] = []
    answers: dict[str, NDArray[np.float32]] = {}
    timings = iter(session.timings)
    for entry, each in opened:
        here = [next(timings) for _ in each.compiled]
        size = entry.candidate.architecture.input_size
        logits = answers_to(each.compiled[0], split, size, device.batch)
        try:
            right = accuracy(torch.from_numpy(logits), split.labels)
        except ArithmeticError as error:  # such as numbers beyond float16
            if not entry.rewrite:
                raise
            log.info("ladder: %s without %s: %s", entry.beside, entry.rewrite, error)
            continue
        answers[entry.name] = logits
        rows.append(
            LadderRow(
                entry.name,
                entry.candidate.key,
                EAGER if entry.eager else device.runtime,
                **right,
                latency_ms=here[0].median_ms,
                latency_p10_ms=here[0].p10_ms,
                latency_p90_ms=here[0].p90_ms,
                throughput={
                    batch: 1e3 * batch / t.median_ms
                    for batch, t in sorted(zip(map(len, each.inputs), here, strict=True))
                },
                peak_memory_mb=each.peak_memory_mb,
                size_mb=each.size_mb,
                images_per_joule=1e3 * device.batch / each.energy_mj if each.energy_mj else None,
                rewrite=_rewritten(entry, answers) if entry.rewrite else None,
            )
        )
    return rows


class _Opened(NamedTuple):
    """A model that is ready to be timed at every batch, and what is known of it before.

    Attributes:
        compiled: one a batch, that of the device first.
        inputs: of each.
        peak_memory_mb: of that one.
        size_mb: of its file.
        energy_mj: of one run of it, above idle; 0 where it is not known.
    """

    compiled: list[Compiled]
    inputs: list[NDArray[np.float32]]
    peak_memory_mb: float
    size_mb: float
    energy_mj: float


def _open(
    entry: Entry, model: CostModel, device: Device, data: Data, count: int, batches: Sequence[int]
) -> _Opened:
    images = data.split("validation").some(max(batches)).images
    images = resized(images, entry.candidate.architecture.input_size).numpy()
    build = build_for(
        device, entry.candidate, entry.network, model.recipes, data, count, entry.compensate
    )
    compiled: list[Compiled] = []
    inputs: list[NDArray[np.float32]] = []
    facts = (0.0, 0.0, 0.0)
    for batch in batches:
        target = _on(device, batch, entry.eager)
        some = np.resize(images, (batch, *images.shape[1:]))
        inputs.append(laid_out(some, find_runtime(target.runtime).channels_last))
        if entry.eager:
            compiled.append(open_runtime(target).compile(entry.network))
            continue
        content = format_of(target).encode(build, target, None)
        compiled.append(open_runtime(target).compile(content))
        if batch == device.batch:
            used = footprint_of([content], target)
            facts = used.growth_mb, len(content) / 1e6, used.energy_mj
    if entry.eager:
        facts = *_eager_facts(entry, device.batch), 0.0
    return _Opened(compiled, inputs, *facts)


def _rewritten(entry: Entry, answers: Mapping[str, NDArray[np.float32]]) -> Rewritten:
    before = answers[entry.beside]
    moved = float(np.linalg.norm(answers[entry.name] - before) / np.linalg.norm(before))
    known = REWRITES.get(entry.rewrite)
    return Rewritten(entry.rewrite, known.exact if known else None, entry.beside, moved)


def growth_here_mb(folder: str, batch: str) -> float:
    """Peak growth of this process by a network in eager PyTorch; meant for a fresh process."""
    torch.set_num_threads(1)
    before = peak_mb()
    network = load_network(folder)
    a = network.architecture
    with torch.inference_mode():
        for _ in range(3):
            network(torch.zeros(int(batch), a.in_chans, a.input_size, a.input_size))
    return peak_mb() - before


def _eager_facts(entry: Entry, batch: int) -> tuple[float, float]:
    """Memory and size of a network as PyTorch keeps it."""
    weights = save(entry.network.state_dict())
    probe = f"from {__name__} import growth_here_mb as f\nimport sys\nprint(f(*sys.argv[1:]))"
    with scratch() as folder:
        write_atomic(folder / CANDIDATE, entry.candidate.to_json())
        write_atomic(folder / WEIGHTS, weights)
        command = [sys.executable, "-c", probe, str(folder), str(batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout), len(weights) / 1e6


def _on(device: Device, batch: int, eager: bool) -> Device:
    if not eager:
        return replace(device, batch=batch)
    provider = "cuda" if device.chip == NVIDIA else "cpu"
    return replace(device, runtime="torch", provider=provider, batch=batch, recipes=("float",))
