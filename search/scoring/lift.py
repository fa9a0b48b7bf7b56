"""Lift: what a whole training adds to a short one, for forecasts that are made of short ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...spaces import Candidate
from ..training.accuracy import SCORES
from .evaluation import Evaluation, Scorer
from .forecast import expit, logit

PRIOR = 0.25  # of an example, by which the slope is held at 1
RANKS = (0.1, 0.5, 0.9)  # of the examples that are trained to the end
ENDS = ("_low", "", "_high")


def anchors(trained: Sequence[Evaluation], goal: str) -> list[Candidate]:
    """Candidates to train to the end: of the poor, of the middling and of the good ones.

    Args:
        trained: for some steps.
        goal: name of the accuracy by which they are ordered.
    """
    ordered = sorted((e for e in trained if e.status == "complete"), key=lambda e: e.metrics[goal])
    last = len(ordered) - 1
    return [ordered[round(last * rank)].candidate for rank in RANKS]


@dataclass(frozen=True)
class Lift:
    """A line between the logits of accuracies after short and after whole trainings."""

    level: float
    slope: float

    @classmethod
    def fit(cls, short: Sequence[float], whole: Sequence[float]) -> Lift:
        """Learn from the accuracies of the same models; of one model it is their difference.

        The slope is that of a ridge regression toward 1, so that few models which hardly differ
        tell the level alone.
        """
        x, y = (np.array([logit(value) for value in values]) for values in (short, whole))
        dx, dy = x - x.mean(), y - y.mean()
        slope = float((dx @ dy + PRIOR) / (dx @ dx + PRIOR))
        slope = max(slope, 0.1)  # what is better stays better
        return cls(float(y.mean() - slope * x.mean()), slope)

    def __call__(self, accuracy: float) -> float:
        """The accuracy after a whole training."""
        return expit(self.level + self.slope * logit(accuracy))


@dataclass(frozen=True)
class Lifted:
    """A forecast of accuracies after whole trainings."""

    forecast: Scorer
    _lifts: Mapping[str, Lift]

    @classmethod
    def fit(cls, forecast: Scorer, finished: Sequence[Evaluation]) -> Lifted:
        """Learn from models that were trained to the end.

        Args:
            forecast: of accuracies after short trainings.
            finished: models, with their accuracies; without any the forecast stays as it is.
        """
        finished = [e for e in finished if e.status == "complete"]
        if not finished:
            return cls(forecast, {})
        told = [forecast(e.candidate) for e in finished]
        known = [name for name in SCORES if all(name in facts for facts in told)]
        lifts = {
            name: Lift.fit([t[name] for t in told], [e.metrics[name] for e in finished])
            for name in known
        }
        return cls(forecast, lifts)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """What is forecast, its accuracies and their intervals lifted."""
        found = self.forecast(candidate)
        for name, lift in self._lifts.items():
            found |= {f"{name}{end}": lift(found[f"{name}{end}"]) for end in ENDS}
        return found
