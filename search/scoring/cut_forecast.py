"""Forecast of what finishing makes of candidates that are cut from a start.

The divergence of an assembled candidate from its start ranks it well, but says nothing in points
of accuracy. So a few candidates of all sizes are finished, and a Gaussian process learns from
them how accurate a candidate of some divergence, number of tokens (after the stem) and work
becomes, and what a nat of divergence costs where tokens are fewer.

What it can learn from few examples is a plane. Of 60 finished candidates cut from a ViT of
CIFAR-10, and of 60 cut from a DeiT-Tiny of photos, 20 and the start foretold the others, in 400
draws, with these Kendall taus and mean errors in points:

    divergence                        0.86 0.8    0.73 2.9
    and work                          0.86 0.8    0.86 1.5
    and tokens                        0.88 0.7    0.83 1.7
    and both                          0.88 0.8    0.85 1.5
    square root of it, and work       0.86 1.2    0.82 1.8
    square root of it, and both       0.88 1.0    0.81 1.9

Tokens tell more on one set and work on the other; both are good on either. The accuracy of the
assembled candidate adds nothing to that (0.87 and 0.85). In a later space tokens could also be
dropped at random, and most of the divergence that comes of it is trained away where many are left:
over 60 other candidates of each set, in 200 draws,

    divergence, tokens and work       0.88 0.6    0.77 2.4
    and divergence times tokens       0.88 0.6    0.81 2.1
 On 40 earlier candidates of CIFAR-10 the
smooth part that serves a forecast of many traits, with the number of parameters, made it worse,
0.72 instead of 0.85.

One split is easier than the other, and by how much is told by the start and the examples, as they
are known on both.

The start is an example that costs nothing: over 40 earlier candidates of the photos, judged on 341
of them, forecasts from 16 others had a Kendall tau of 0.79 with it and 0.77 without, where seeds
allow 0.86, and without it they promised the uncut start 6 points more than it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ...cost_models import workload
from ...spaces import Candidate
from ..training.accuracy import SCORES, Z
from .assembled import AssembledScorer
from .evaluation import Evaluation, Scorer
from .finishing import ELSEWHERE, Finishing
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


def known_divergences(finished: Sequence[Evaluation]) -> Scorer:
    """Says how far finished candidates were without a look at them."""
    known = {e.key: {"divergence": e.metrics["divergence"]} for e in finished}
    return lambda candidate: known[candidate.key]


def shift_between_splits(
    examples: Iterable[Evaluation], here: Mapping[str, float], there: Mapping[str, float]
) -> dict[str, float]:
    """By how much logits of accuracies are higher on another split: name -> mean of all models.

    The start alone is noisy: of 517 and 341 photos it had 1.5 points more on the second split,
    where the cut networks had 2 less.

    Args:
        examples: with accuracies on the split that scores, and "elsewhere" on the other one.
        here: accuracies of the start on the split that scores.
        there: on the other one.
    """
    pairs = {name: [(here[name], there[name])] for name in SCORES}
    for metrics in (e.metrics for e in examples):
        for name in SCORES:
            if (known := metrics.get(f"{ELSEWHERE}{name}")) is not None:
                pairs[name].append((metrics[name], known))
    return {n: fmean(logit(b) - logit(a) for a, b in known) for n, known in pairs.items()}


def on_other_split(
    finished: Sequence[Evaluation], shift: Mapping[str, float], images: tuple[int, int]
) -> list[Evaluation]:
    """Candidates as accurate as they are likely to be on another split.

    One that is known on both is judged by the images of both; those that failed are left out.

    Args:
        finished: with accuracies on the split that scores, and "elsewhere" on the other one.
        shift: of their logits, by name.
        images: of the split that scores, and of the other one.
    """
    here, there = (count / sum(images) for count in images)

    def moved(metrics: Mapping[str, float]) -> dict[str, float]:
        found = dict(metrics)
        for name in SCORES:
            value = logit(metrics[name]) + shift[name]
            if (known := metrics.get(f"{ELSEWHERE}{name}")) is not None:
                value = here * value + there * logit(known)
            found[name] = expit(value)
        return found

    return [replace(e, metrics=moved(e.metrics)) for e in finished if e.status == "complete"]


@dataclass(frozen=True)
class CutForecast:
    """Predicts accuracies of finished candidates; made by `fit`.

    Attributes:
        judge: says how far candidates are from the start when they are assembled.
    """

    judge: Scorer
    _most: int
    _processes: Mapping[str, tuple[GaussianProcess, float]]

    @classmethod
    def fit(cls, finished: Sequence[Evaluation], judge: Scorer) -> CutForecast:
        """Learn from finished candidates.

        The processes are widened until they are as sure as they are right about each example
        that they were not told of.

        Raises:
            RunError: too few could be finished.
        """
        complete = enough(finished)
        most = max(e.candidate.architecture.grid**2 for e in complete)
        features = [_features(e.candidate, e.metrics["divergence"], most) for e in complete]
        processes: dict[str, tuple[GaussianProcess, float]] = {}
        for name in SCORES:
            targets = np.array([logit(e.metrics[name]) for e in complete])
            process = GaussianProcess.fit(np.stack(features), targets, lengths=(math.inf,))
            off = process.left_out()
            processes[name] = process, max(1.0, float(np.sqrt((off**2).mean())))
        return cls(judge, most, processes)

    def judged_by(self, judge: Scorer) -> CutForecast:
        """The same, with another look at the candidates."""
        return replace(self, judge=judge)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies with the 95% intervals of a single training, and the divergence."""
        far = self.judge(candidate)["divergence"]
        features = _features(candidate, far, self._most)[None]
        found = {"divergence": far}
        for name, (process, widened) in self._processes.items():
            (mean,), (unsure,) = process.predict(features)
            spread = widened * math.hypot(unsure, process.rest)
            for end, z in (("_low", -Z), ("", 0.0), ("_high", Z)):
                found[f"{name}{end}"] = expit(mean + z * spread)
        return found


def _features(candidate: Candidate, divergence: float, most: int) -> NDArray[np.float64]:
    """Of a candidate, where `most` is the largest number of tokens of the examples."""
    tokens, work = (
        math.log(candidate.architecture.grid**2 / most),
        math.log(workload(candidate).macs),
    )
    return np.array([divergence, tokens, work, divergence * tokens])
