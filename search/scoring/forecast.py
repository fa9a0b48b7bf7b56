"""Forecast: accuracies of candidates trained alone, predicted from a sample of such trainings.

Shared weights are unfair: they serve some choices better than others. In four runs of `digits`,
accuracies inherited after a minute of shared training had a Kendall tau of 0.67 with those of 40
candidates trained alone, less than the number of parameters (0.73). So some random candidates are
trained alone, and a Gaussian process learns from their traits how good each of the others would
be (0.79). With the inherited accuracy as one more trait tau was 0.77, so it is left out. Trainings
cut to two thirds of the steps favor candidates that learn fast, such as those with large patches
(0.77); half as many of the full length do as well (0.77), so length matters more than number.
A higher learning rate makes up for length: against 80 passes of 24 candidates, two seeds of 240
steps at 0.002 had a tau of 0.70 and 0.67, 160 steps 0.65 (learning rate 0.003), 0.74 (0.004), 0.68
(0.005) and 0.46 (0.008).

The candidates and the split that check a forecast take no part in making it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...spaces import Candidate, SearchSpace
from ...spaces.errors import FailedError
from ..config import FEWEST_EXAMPLES
from ..console import progress
from ..training.accuracy import LEAST, SCORES, Z
from .candidate_features import Traits
from .evaluation import Evaluation, Scorer, evaluate
from .evaluation_log import EvaluationLog
from .gaussian_process import GaussianProcess
from .score_queue import Scores

Array = NDArray[np.float64]

EXAMPLE_SEED = 2000  # added to the run's; no seed of the trainings that check the proxy
TRIES = 20  # draws for each example in a space that has hardly more


def draw_examples(space: SearchSpace, n: int, seed: int) -> list[Candidate]:
    """Up to `n` different random candidates."""
    rng = random.Random(f"forecast {seed}")
    drawn: dict[str, Candidate] = {}
    for _ in range(TRIES * n):
        candidate = space.draw(rng)
        drawn.setdefault(candidate.key, candidate)
        if len(drawn) == n:
            break
    return list(drawn.values())


def train_examples(
    candidates: Sequence[Candidate],
    training: Scorer,
    executor: Executor,
    log: EvaluationLog,
    ahead: int,
    label: str = "short trainings",
    is_over: Callable[[int], bool] = lambda ended: False,
) -> list[Evaluation]:
    """Trainings of all candidates; those that are in the log are not repeated.

    Args:
        candidates: to train.
        training: trains one and says how accurate it is then; travels to workers.
        executor: runs them.
        log: trainings so far; each new one is appended.
        ahead: trainings under way at once.
        label: of the progress.
        is_over: whether no more shall begin, once so many have ended and enough are under way.
    """
    scores = Scores(partial(evaluate, training), executor, log)
    evaluations, begun = list[Evaluation](), 0
    with progress(len(candidates), label, "training") as bar:
        for ended, candidate in enumerate(candidates):
            failed = sum(e.status != "complete" for e in evaluations)
            for following in candidates[begun : ended + ahead]:
                if begun - failed >= FEWEST_EXAMPLES and is_over(ended):
                    break
                scores.submit(following, {})
                begun += 1
            if begun == ended:
                break
            evaluations.append(scores.result(candidate.key))
            bar.update()
    return evaluations


@dataclass(frozen=True)
class Forecast:
    """Predicts the accuracies of a short training.

    Made by `fit`.
    """

    _traits: Traits
    _shares: Mapping[str, _Share]

    @classmethod
    def fit(cls, trained: Sequence[Evaluation]) -> Forecast:
        """Learn from short trainings.

        Raises:
            FailedError: too few of them succeeded.
        """
        complete = enough(trained)
        traits = Traits([e.candidate for e in complete])
        features = traits([e.candidate for e in complete])
        shares = {
            name: _Share.fit(
                features,
                np.array([e.metrics[score] for e in complete]),
                np.array([logit(e.metrics[name]) for e in complete]),
                traits.weights,
            )
            for name, score in SCORES.items()
            if all(score in e.metrics for e in complete)  # 0.2 knew no balanced accuracy
        }
        return cls(traits, shares)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies with the 95% intervals of a single training, by name."""
        features = self._traits([candidate])
        return {
            f"{name}{end}": value
            for name, share in self._shares.items()
            for end, value in zip(("_low", "", "_high"), share(features), strict=True)
        }


@dataclass(frozen=True)
class _Share:
    """Predicts one of the accuracies.

    The score is predicted, as its order depends less on the seed than that of the accuracy. It is
    put on the scale of the logits of accuracies by mean and spread over the examples (linear
    equating, Kolen and Brennan 2014, chapter 2).
    """

    process: GaussianProcess
    center: float
    width: float
    level: float
    slope: float

    @classmethod
    def fit(cls, features: Array, scores: Array, logits: Array, weights: Array) -> _Share:
        """Learn from traits (N, D), scores (N,) and logits of accuracies (N,)."""
        process = GaussianProcess.fit(features, scores, weights)
        center, width = float(scores.mean()), float(scores.std()) or 1.0
        return cls(process, center, width, float(logits.mean()), float(logits.std()))

    def __call__(self, features: Array) -> tuple[float, ...]:
        """Low end, accuracy and high end for traits (1, D)."""
        (mean,), (unsure,) = self.process.predict(features)
        spread = math.hypot(unsure, self.process.rest)
        moved = (mean + z * spread - self.center for z in (-Z, 0.0, Z))
        return tuple(expit(self.level + self.slope * m / self.width) for m in moved)


def enough(trained: Sequence[Evaluation]) -> list[Evaluation]:
    """The trainings that succeeded.

    Raises:
        FailedError: they are too few.
    """
    complete = [e for e in trained if e.status == "complete"]
    if len(complete) < FEWEST_EXAMPLES:
        raise FailedError(
            f"forecast: {len(complete)} short trainings succeeded, {FEWEST_EXAMPLES} are needed; "
            "short_trainings.jsonl says why the others failed"
        )
    return complete


def logit(share: float) -> float:
    """Logarithm of the odds, for shares that are not quite 0 or 1."""
    share = min(max(share, LEAST), 1 - LEAST)
    return math.log(share / (1 - share))


def expit(logit: float) -> float:
    """Inverse of `logit`."""
    return (1 + math.tanh(logit / 2)) / 2  # which does not overflow
