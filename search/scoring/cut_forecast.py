"""Forecast of what finishing makes of candidates that are cut from a start.

The divergence of an assembled candidate from its start ranks it well, but says nothing in points
of accuracy. So a few candidates of all sizes are finished, and a Gaussian process learns from
them how accurate a candidate of some divergence, work and size becomes. More traits than these
made it worse on few examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...cost_models import workload
from ...spaces import Candidate
from ..training.accuracy import LEAST, SCORES, Z
from .assembled import AssembledScorer
from .evaluation import Evaluation
from .finishing import Finishing
from .forecast import enough, expit, logit
from .gaussian_process import GaussianProcess


@dataclass(frozen=True, slots=True)
class Example:
    """Finishes a candidate for a forecast; travels to workers.

    Attributes:
        finishing: trains it.
        judge: says how far from the start it was before.
    """

    finishing: Finishing
    judge: AssembledScorer

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies when finished, and the divergence when assembled."""
        far = self.judge(candidate)["divergence"]
        return self.finishing(candidate) | {"divergence": far}


@dataclass(frozen=True)
class CutForecast:
    """Predicts accuracies of finished candidates; made by `fit`.

    Attributes:
        judge: assembles candidates, and says how far from the start they are.
    """

    judge: AssembledScorer
    _processes: Mapping[str, tuple[GaussianProcess, float]]

    @classmethod
    def fit(cls, finished: Sequence[Evaluation], judge: AssembledScorer) -> CutForecast:
        """Learn from finished candidates.

        The processes are widened until they are as sure as they are right about each example
        that they were not told of.

        Raises:
            RunError: too few could be finished.
        """
        complete = enough(finished)
        features = np.stack([_features(e.candidate, e.metrics["divergence"]) for e in complete])
        processes: dict[str, tuple[GaussianProcess, float]] = {}
        for name in SCORES:
            targets = np.array([logit(e.metrics[name]) for e in complete])
            process = GaussianProcess.fit(features, targets)
            off = process.left_out()
            processes[name] = process, max(1.0, float(np.sqrt((off**2).mean())))
        return cls(judge, processes)

    def judged_by(self, judge: AssembledScorer) -> CutForecast:
        """The same, with another look at the candidates."""
        return replace(self, judge=judge)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies with the 95% intervals of a single training, and the divergence."""
        far = self.judge(candidate)["divergence"]
        features = _features(candidate, far)[None]
        found = {"divergence": far}
        for name, (process, widened) in self._processes.items():
            (mean,), (unsure,) = process.predict(features)
            spread = widened * math.hypot(unsure, process.rest)
            for end, z in (("_low", -Z), ("", 0.0), ("_high", Z)):
                found[f"{name}{end}"] = expit(mean + z * spread)
        return found


def _features(candidate: Candidate, divergence: float) -> NDArray[np.float64]:
    work = workload(candidate)
    return np.log([max(divergence, LEAST), work.macs, work.params])
