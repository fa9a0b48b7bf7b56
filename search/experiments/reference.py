"""Reference: what a run's models are to be compared with, as far as it costs no training.

The largest network of the space with its shared weights, in eager PyTorch on as many threads as
the device has: where one would start without a search. `ladder` has fairer ones, which are trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...spaces import Candidate
from ..run.stages import stage
from ..store.atomic_files import write_json
from .ladder import has_weights
from .side_by_side import Rung, climb

if TYPE_CHECKING:
    from ..run.assets import Run

REFERENCE = "reference.json"
NAME = "largest, not fine-tuned"


def measure_reference(run: Run) -> None:
    """Measure it unless that was done, and write `reference.json`: a row as in `ladder.json`."""
    path = run.folder.path / REFERENCE
    candidate = Candidate.uncompressed(run.space.largest().architecture)
    if path.exists() or not has_weights(run.supernet, candidate):
        return
    with stage(run.folder, "reference"):
        rung = Rung(NAME, candidate, run.supernet.extract(candidate), eager=True)
        count = run.config.export.calibration_images
        (row,) = climb([rung], run.cost_model, run.device, run.data, count)
        write_json(path, row.to_dict())
