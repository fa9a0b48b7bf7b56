"""Reference: what a run's models are compared with, which needs no training of its own.

It is the start of the run, or without one the largest network of the space: with its shared
weights, or in a run that has none with random ones, and so without an accuracy. It is measured in
float32, in the runtime that runs the delivered models, which is the fair comparison, and in eager
PyTorch, both on as many threads as the device has. A start is also measured with all its blocks in
int8 by the device's best recipe, and nothing else changed. `ladder` has models that are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...spaces import Candidate
from ..delivery.decompression import policies, with_policy
from ..delivery.manifest import manifests
from ..run.assets import Run
from ..run.stage import Stage
from ..run.stages import running
from ..store.atomic_files import write_json
from ..training.accuracy import SCORES
from ..training.supernet import fresh
from .ladder import INT8, has_weights, runs
from .side_by_side import Entry, entry_of, measure_entries, speed_beside

START, LARGEST = "start", "largest"
GUESSES = tuple(SCORES)  # columns of a row that say nothing of random weights


def measure_reference(run: Run) -> None:
    """Measure the references once, and write `reference.json`, rows as in `ladder.json`.

    All are timed in turn with the slowest delivered model, which tells the speed of the machine.
    None is where the device is another machine, on which nothing can be timed. Of several devices
    each has its own.
    """
    sides = [s for s in run.sides.values() if s.is_here and not s.folder.reference.exists()]
    waiting = [(side, entries) for side in sides if (entries := references(side))]
    if waiting:
        with running(run.folder, Stage.REFERENCE):
            for side, entries in waiting:
                write_json(side.folder.reference, _measured(side, entries))


def _measured(run: Run, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Rows of the references on one device."""
    model, delivered = run.ensure_cost_model(), manifests(run.folder.pareto)
    beside = entry_of(run.folder.pareto, delivered[-1])
    count = run.config.export.calibration_images
    rows = measure_entries([*entries, beside], model, run.device, run.data, count, batches=[])
    speed = speed_beside(rows, delivered)
    found = [row.at_calibrated_speed(speed).to_dict() for row in rows[: len(entries)]]
    if not is_trained(run):
        found = [{k: v for k, v in row.items() if not k.startswith(GUESSES)} for row in found]
    return found


def references(run: Run) -> list[Entry]:
    """Models to compare with: in float32 in the device's runtime, in PyTorch, and in int8."""
    start, candidate = run.ensure_start(), Candidate.uncompressed(run.space.largest().architecture)
    if start:
        candidate, network = Candidate.uncompressed(start.architecture), start
    elif not is_trained(run):
        network = fresh(candidate, run.config.search.seed).cpu()
    elif has_weights(run.ensure_supernet(), candidate):
        network = run.ensure_supernet().extract(candidate)
    else:
        return []
    name, model = START if start else LARGEST, run.ensure_cost_model()
    entries = [Entry(f"{name}, PyTorch", candidate, network, eager=True)]
    if runs(candidate, model):
        entries.insert(0, Entry(f"{name}, float32", candidate, network))
    if start and runs(quantized := with_int8_blocks(candidate), model):
        entries.append(Entry(f"{name}, int8", quantized, network))
    return entries


def is_trained(run: Run) -> bool:
    """Whether the reference has weights that have learned anything."""
    return bool(run.config.start.model) or run.config.has_supernet


def with_int8_blocks(candidate: Candidate) -> Candidate:
    """The candidate with every mixer and MLP in int8.

    Stem and head stay, as is usual: with its stem alone in int8 a small start fell from 92 to 80%,
    and they take little of the time.
    """
    for path in policies(candidate):
        if path.startswith("stages."):
            candidate = with_policy(candidate, path, INT8)
    return candidate
