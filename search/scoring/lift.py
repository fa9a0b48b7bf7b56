"""Lift: what whole trainings make of models beyond their forecasts.

Forecasts are learned from short trainings. Models that were trained to the end say nothing about
how these depend on a candidate, as they are few and had more time, but how much they all become
better: a line on the scale of logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from ...spaces import Candidate
from ..training.accuracy import SCORES, Z
from .evaluation import Evaluation, Scorer
from .forecast import expit, logit

SLOPE = 0.2  # by which slopes are expected to differ from 1
PRIOR = 0.25  # of a ridge regression: how sure that is beside models that are off by 0.1
RANKS = (0.1, 0.5, 0.9)  # of the examples that are trained to the end
ENDS = ("_low", "", "_high")
TRUSTED = 4  # models that count as being as far off as their intervals say
TINY = 1e-6  # half of an interval that has no width

Metrics = Mapping[str, float]


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
    """A line between the logits of accuracies as forecast and after whole trainings.

    Attributes:
        level: at its beginning.
        slope: of it.
        widening: of the forecast's intervals, as the line is not known either.
    """

    level: float
    slope: float
    widening: float = 1.0

    @classmethod
    def fit(
        cls,
        forecast: Sequence[float],
        whole: Sequence[float],
        earlier: int = 0,
        prior: float = PRIOR,
    ) -> Lift:
        """Learn from the accuracies of the same models; of one model it is their difference.

        The slope is that of a ridge regression toward 1, so that few models which hardly differ
        tell the level alone.

        Args:
            forecast: or after short trainings.
            whole: after whole trainings.
            earlier: other models that have lifted the forecast already, which is right about
                them on average.
            prior: variance of what a forecast does not know, in that of slopes.
        """
        x, y = (np.array([logit(value) for value in values]) for values in (forecast, whole))
        dx, dy = x - x.mean(), y - y.mean()
        slope = float((dx @ dy + prior) / (dx @ dx + prior))
        slope = max(slope, 0.1)  # what is better stays better
        shift = float((y - x).sum()) / (len(x) + earlier)
        return cls(shift + float(x.mean()) * (1 - slope), slope)

    def __call__(self, accuracy: float) -> float:
        """The accuracy after a whole training."""
        return expit(self.level + self.slope * logit(accuracy))

    def interval(self, low: float, share: float, high: float) -> tuple[float, float, float]:
        """An accuracy between the ends of its interval, after a whole training."""
        wide = self.slope * self.widening
        middle = self.level + self.slope * logit(share)
        below, above = (wide * (logit(end) - logit(share)) for end in (low, high))
        return expit(middle + below), expit(middle), expit(middle + above)


Lifts = Mapping[str, Lift]


def learn(told: Sequence[Metrics], finished: Sequence[Metrics], earlier: int = 0) -> Lifts:
    """Lifts by the name of the accuracy; none without models.

    A single model is off its lifted forecast by what the forecast does not know of it. So the mean
    of n is known to 1 / sqrt(n) of that, which widens the intervals; and so do models that are
    further off than they say when the lift is learned from the others.

    Args:
        told: accuracies of models as forecast, with their intervals.
        finished: accuracies of these models after their whole trainings.
        earlier: as in `Lift.fit`.
    """
    names = [n for n in SCORES if told and all(n in facts for facts in (*told, *finished))]
    return {
        name: _learn(
            [tuple(facts[f"{name}{end}"] for end in ENDS) for facts in told],
            [facts[name] for facts in finished],
            earlier,
        )
        for name in names
    }


def _learn(told: Sequence[tuple[float, ...]], whole: Sequence[float], earlier: int) -> Lift:
    shares, all_models = [share for _, share, _ in told], range(len(told))
    spreads = [(logit(high) - logit(low)) / (2 * Z) for low, _, high in told]
    prior = max(fmean(s * s for s in spreads), TINY) / SLOPE**2

    def without(left_out: int | None) -> Lift:
        kept = [i for i in all_models if i != left_out]
        lift = Lift(0.0, 1.0)
        if kept:
            some = [shares[i] for i in kept], [whole[i] for i in kept]
            lift = Lift.fit(*some, earlier, prior)
        known = len(kept) + earlier
        return replace(lift, widening=math.sqrt(1 + 1 / known)) if known else lift

    off: list[float] = []  # of models that are left out, in standard deviations
    if len(told) + earlier > 1:
        for i in all_models:
            low, share, high = without(i).interval(*told[i])
            error = logit(whole[i]) - logit(share)
            off.append(error * Z / max(abs(logit(high if error > 0 else low) - logit(share)), TINY))
    worse = (TRUSTED + sum(z * z for z in off)) / (TRUSTED + len(off))
    lift = without(None)
    return replace(lift, widening=lift.widening * max(1.0, math.sqrt(worse)))


def lifted(metrics: Metrics, lifts: Lifts) -> dict[str, float]:
    """Metrics of a candidate, its accuracies and their intervals lifted."""
    found = {**metrics}
    for name, lift in lifts.items():
        ends = [f"{name}{end}" for end in ENDS]
        found |= zip(ends, lift.interval(*(found[end] for end in ends)), strict=True)
    return found


@dataclass(frozen=True)
class Lifted:
    """A forecast of accuracies after whole trainings."""

    forecast: Scorer
    _lifts: Lifts

    @classmethod
    def fit(cls, forecast: Scorer, finished: Sequence[Evaluation]) -> Lifted:
        """Learn from models that were trained to the end.

        Args:
            forecast: of accuracies after short trainings.
            finished: models, with their accuracies; without any the forecast stays as it is.
        """
        finished = [e for e in finished if e.status == "complete"]
        told = [forecast(e.candidate) for e in finished]
        return cls(forecast, learn(told, [e.metrics for e in finished]))

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """What is forecast, lifted."""
        return lifted(self.forecast(candidate), self._lifts)
