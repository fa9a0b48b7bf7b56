"""Reference: a model to compare a run's models with, which needs no training.

It is the largest network of the space with its shared weights, in eager PyTorch on as many threads
as the device has. `ladder` has fairer ones, which are trained.
"""

from __future__ import annotations

from ...spaces import Candidate
from ..run.assets import Run
from ..run.stage import Stage
from ..run.stages import running
from ..store.atomic_files import write_json
from .ladder import has_weights
from .side_by_side import Entry, measure_entries

NAME = "largest, not fine-tuned"


def measure_reference(run: Run) -> None:
    """Measure the reference once, and write `reference.json`, a row as in `ladder.json`."""
    path, supernet = run.folder.reference, run.ensure_supernet()
    candidate = Candidate.uncompressed(run.space.largest().architecture)
    if path.exists() or not has_weights(supernet, candidate):
        return
    with running(run.folder, Stage.REFERENCE):
        entry = Entry(NAME, candidate, supernet.extract(candidate), eager=True)
        count = run.config.export.calibration_images
        (row,) = measure_entries([entry], run.ensure_cost_model(), run.device, run.data, count)
        write_json(path, row.to_dict())
