"""Reference: a model to compare a run's models with, which needs no training.

It is the largest network of the space with its shared weights in float32: in the runtime that runs
the delivered models, which is the fair comparison, and in eager PyTorch, both on as many threads as
the device has. `ladder` has ones that are trained.
"""

from __future__ import annotations

from ...spaces import Candidate
from ..delivery.manifest import manifests
from ..run.assets import Run
from ..run.stage import Stage
from ..run.stages import running
from ..store.atomic_files import write_json
from .ladder import has_weights, runs
from .side_by_side import Entry, entry_of, measure_entries, speed_beside

COMPILED, EAGER = "largest, float32", "largest, PyTorch"


def measure_reference(run: Run) -> None:
    """Measure the reference once, and write `reference.json`, rows as in `ladder.json`.

    Both are timed in turn with the slowest delivered model, which tells the speed of the machine.
    """
    path, supernet = run.folder.reference, run.ensure_supernet()
    candidate = Candidate.uncompressed(run.space.largest().architecture)
    if path.exists() or not has_weights(supernet, candidate):
        return
    with running(run.folder, Stage.REFERENCE):
        model, network = run.ensure_cost_model(), supernet.extract(candidate)
        delivered = manifests(run.folder.pareto)
        entries = [Entry(EAGER, candidate, network, eager=True)]
        if runs(candidate, model):
            entries.insert(0, Entry(COMPILED, candidate, network))
        beside = entry_of(run.folder.pareto, delivered[-1])
        count = run.config.export.calibration_images
        rows = measure_entries([*entries, beside], model, run.device, run.data, count, batches=[1])
        speed = speed_beside(rows, delivered)
        write_json(path, [row.at_calibrated_speed(speed).to_dict() for row in rows[: len(entries)]])
