"""Successive halving: many candidates scored on few images, the best on more, the last on all.

Follows Jamieson and Talwalkar (arXiv:1502.07943), with non-dominated sorting instead of one score,
as several objectives have no single best.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

from ...spaces import Candidate
from ..data.dataset import Split
from ..pareto.objectives import Objective, violations
from ..pareto.sorting import survival
from .evaluation import Evaluation
from .evaluation_log import EvaluationLog
from .score_queue import Scores

KEEP = 1 / 3  # share of a rung's candidates that is scored on the next one
BRACKET = 27  # candidates that begin together


class Halving:
    """Scores candidates like `Scores`, most of them on a part of the images.

    Candidates are gathered until the first result is asked for; that ends the bracket, and each
    rung keeps the best third of it. So the study's window is the size of a bracket.

    Args:
        rungs: from few images to all; each has a log of its own.
        objectives: by which candidates are compared.
    """

    def __init__(self, rungs: Sequence[Scores], objectives: Sequence[Objective]) -> None:
        self._rungs, self._objectives = list(rungs), list(objectives)
        self._bracket: dict[str, tuple[Candidate, Mapping[str, float]]] = {}
        # Not read from the log, which may be ahead of a resumed study.
        self._settled: dict[str, Evaluation] = {}
        self._whole: dict[str, Evaluation] = {}

    @property
    def log(self) -> EvaluationLog:
        """Evaluations on all images."""
        return self._rungs[-1].log

    def submit(self, candidate: Candidate, costs: Mapping[str, float]) -> None:
        """Start scoring a candidate on the lowest rung."""
        if candidate.key not in self._whole:
            self._settled.pop(candidate.key, None)
            self._bracket[candidate.key] = candidate, costs
            self._rungs[0].submit(candidate, costs)

    def result(self, key: str) -> Evaluation:
        """The candidate's evaluation on the highest rung that it reached."""
        if key in self._bracket:
            self._halve()
        return self._whole.get(key) or self._settled[key]

    def in_full(self, key: str) -> bool:
        """Whether a candidate reached the top."""
        return key in self._whole

    def _halve(self) -> None:
        alive = list(self._bracket)
        for rung, above in pairwise(self._rungs):
            evaluations = [rung.result(key) for key in alive]
            self._settled |= {e.key: e for e in evaluations}
            complete = [e for e in evaluations if e.status == "complete"]
            alive = [e.key for e in self._best(complete, math.ceil(KEEP * len(evaluations)))]
            for key in alive:
                above.submit(*self._bracket[key])
        self._whole |= {key: self._rungs[-1].result(key) for key in alive}
        self._bracket.clear()

    def _best(self, evaluations: Sequence[Evaluation], n: int) -> list[Evaluation]:
        """The first `n` by excess over limits, front and crowding."""
        if not evaluations:
            return []
        traded = [o for o in self._objectives if o.traded]
        losses = [[o.loss(e.metrics[o.name]) for o in traded] for e in evaluations]
        excess = [
            sum(max(0.0, v) for v in violations(e.metrics, self._objectives).values())
            for e in evaluations
        ]
        return [evaluations[i] for i in survival(np.array(losses), np.array(excess))[:n]]


def part(split: Split, share: float) -> Split:
    """A share of a split's images; each part holds all smaller ones."""
    order = random.Random(0).sample(range(len(split)), len(split))
    index = sorted(order[: max(1, round(share * len(split)))])
    return split.at(torch.tensor(index))
