"""Refreshing: forecasts moved by what became of the models that were finished after them.

Delivered models are trained longer than the examples of a forecast, so they say nothing about its
plane, but how much better whole trainings are: they lift it. That they were chosen by their
forecasts does not bias this, as chance in their trainings had no part in the choice. A lift keeps
the order of candidates, so that a search that goes on comes to the same ones: what changes is
which of them keep a limit on accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..config import load_config
from ..delivery.claims import plain
from ..delivery.manifest import read_manifests
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import read_evaluations
from ..scoring.lift import Lifts, learn, lifted
from ..store.run_folder import RunPaths


@dataclass(frozen=True)
class Refresh:
    """What finished models say about the forecasts of others.

    Attributes:
        models: number of them.
        lifts: of the forecasts; none without models.
    """

    models: int
    lifts: Lifts

    def __call__(self, scored: Sequence[Evaluation]) -> list[Evaluation]:
        """Evaluations with their accuracies moved."""
        return [replace(e, metrics=lifted(e.metrics, self.lifts)) for e in scored]


def refresh_of(paths: RunPaths, scored: Sequence[Evaluation]) -> Refresh:
    """Learn from the delivered models of a run folder.

    Nothing is learned from models that gave compression back or that no search found, as they were
    not forecast, nor in a run that forecasts nothing.

    Args:
        paths: of the run.
        scored: its candidates that could be scored, as they were forecast.

    Raises:
        RunError: a manifest is damaged.
    """
    config = load_config(paths.config)
    if not config.forecast.candidates:
        return Refresh(0, {})
    told, sides = {e.key: e.metrics for e in scored}, config.by_device
    delivered = {m.key: m for name in sides for m in read_manifests(paths.of(name).pareto)}
    finished = [m for m in delivered.values() if m.as_forecast and m.key in told]
    whole, _ = read_evaluations(paths.whole_trainings)
    earlier = sum(e.status == "complete" for e in whole)
    lifts = learn([told[m.key] for m in finished], [plain(m.trained) for m in finished], earlier)
    return Refresh(len(finished), lifts)
