"""Reference: what a run's models are compared with, which needs no training of its own.

It is the start of the run, in eager PyTorch on as many threads as the device has, and the start
with all its blocks in int8 by the device's best recipe, with nothing else changed. Without a start
it is the largest network of the space with its shared weights. `ladder` has ones that are trained.
"""

from __future__ import annotations

from ...spaces import Candidate
from ..delivery.decompression import policies, with_policy
from ..run.assets import Run
from ..run.stages import Stage, running
from ..store.atomic_files import write_json
from .ladder import INT8, has_weights, runs
from .side_by_side import Entry, measure_entries

NAME, START = "largest, not fine-tuned", "start"


def measure_reference(run: Run) -> None:
    """Measure the references once, and write `reference.json`, rows as in `ladder.json`."""
    if run.folder.reference.exists() or not (entries := references(run)):
        return
    with running(run.folder, Stage.REFERENCE):
        count = run.config.export.calibration_images
        rows = measure_entries(entries, run.ensure_cost_model(), run.device, run.data, count)
        write_json(run.folder.reference, [row.to_dict() for row in rows])


def with_int8_blocks(candidate: Candidate) -> Candidate:
    """The candidate with every mixer and MLP in int8.

    Stem and head stay, as is usual: with its stem alone in int8 a small start fell from 92 to 80%,
    and they take little of the time.
    """
    for path in policies(candidate):
        if path.startswith("stages."):
            candidate = with_policy(candidate, path, INT8)
    return candidate


def references(run: Run) -> list[Entry]:
    """The models to compare with, the one in eager PyTorch first."""
    if start := run.ensure_start():
        candidate = Candidate.uncompressed(start.architecture)
        quantized = with_int8_blocks(candidate)
        entries = [Entry(START, candidate, start, eager=True)]
        if runs(quantized, run.ensure_cost_model()):
            entries.append(Entry(f"{START}, int8", quantized, start))
        return entries
    supernet = run.ensure_supernet()
    candidate = Candidate.uncompressed(run.space.largest().architecture)
    if not has_weights(supernet, candidate):
        return []
    return [Entry(NAME, candidate, supernet.extract(candidate), eager=True)]
