"""Forecast errors: how far forecasts are off, and how often their intervals hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from ..config import FEWEST_EXAMPLES
from ..training.accuracy import Z
from .evaluation import Evaluation, Scorer
from .forecast import expit, logit

FOLDS = 5  # of a cross-validation
OF_95 = 1.645 / Z  # width of a 90% interval in that of a 95% one


def errors(
    told: Sequence[Mapping[str, float]], truth: Sequence[float], goal: str
) -> dict[str, float]:
    """How far forecasts are off, and how often their 90% intervals hold the truth.

    Args:
        told: accuracies with their 95% intervals.
        truth: accuracies when trained.
        goal: name of the accuracy.
    """
    ends = [interval_90(metrics, goal) for metrics in told]
    inside = [low <= t <= high for (low, high), t in zip(ends, truth, strict=True)]
    off = [metrics[goal] - t for metrics, t in zip(told, truth, strict=True)]
    return {"mean_error": fmean(map(abs, off)), "bias": fmean(off), "coverage_90": fmean(inside)}


def interval_90(metrics: Mapping[str, float], goal: str) -> tuple[float, float]:
    """Ends of the 90% interval of a forecast, from its 95% one."""
    middle = logit(metrics[goal])
    low, high = (
        expit(middle + OF_95 * (logit(metrics[f"{goal}{end}"]) - middle))
        for end in ("_low", "_high")
    )
    return low, high


def validated_errors(
    examples: Sequence[Evaluation], fit: Callable[[Sequence[Evaluation]], Scorer], goal: str
) -> dict[str, float]:
    """The same about examples that a forecast was not told of, by cross-validation; none of few.

    Args:
        examples: trained for some steps.
        fit: learns from examples.
        goal: name of the accuracy.
    """
    complete = [e for e in examples if e.status == "complete"]
    if len(complete) - math.ceil(len(complete) / FOLDS) < FEWEST_EXAMPLES:
        return {}
    told, truth = list[Mapping[str, float]](), list[float]()
    for fold in range(FOLDS):
        forecast = fit([e for i, e in enumerate(complete) if i % FOLDS != fold])
        told += [forecast(e.candidate) for e in complete[fold::FOLDS]]
        truth += [e.metrics[goal] for e in complete[fold::FOLDS]]
    return {"n": len(truth)} | errors(told, truth, goal)
