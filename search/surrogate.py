"""Surrogate: predicts scores from the trials so far, and proposes what promises the most.

The loop of LINAS (Cummings et al., arXiv:2205.10358): predict the scored objectives, search the
predictor together with exact costs, score the best unseen candidates, repeat. Here the predictor
is a Gaussian process, and the best are those whose optimistic prediction adds the most
hypervolume to the front, each chosen as if the ones before it had come true.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..spaces import Candidate, Scalar, SearchSpace
from .encode import Encoder
from .gaussian import GaussianProcess
from .genetic import Individual, evolve, survival
from .hypervolume import Box, exclusive, nondominated
from .objectives import Objective, violations
from .scaling import scalings

Array = NDArray[np.float64]

FIRST = 16  # trials before anything is predicted
BATCH = 8
SCALINGS = 5
POPULATION, GENERATIONS = 60, 12
OPTIMISM = 0.5  # standard deviations
EXAMPLES = 1000  # that a prediction learns from; its time grows with their cube
POOL = 150  # individuals among which proposals are chosen


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is computed once for an individual."""

    costs: Mapping[str, float]
    features: Array


@dataclass(frozen=True, slots=True)
class Told:
    """An earlier trial: its choices, and its scores unless there are none."""

    assignment: Mapping[str, Scalar]
    scores: Mapping[str, float]


class Surrogate:
    """Proposes assignments; the same history gives the same proposals.

    Args:
        space: where to search.
        objectives: what is sought, and limits.
        costs: exact costs of a candidate; a metric that is not among them is predicted.
        seed: of the first trials and of the inner search.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        costs: Callable[[Candidate], Mapping[str, float]],
        seed: int,
    ) -> None:
        self._space, self._objectives, self._costs = space, list(objectives), costs
        self._rng = random.Random(seed)
        self._encode = Encoder(space.parameters)
        self._known: dict[str, _Facts] = {}
        self._proposed: set[str] = set()
        self._queue: deque[Individual] = deque()

    def propose(self, history: Callable[[], Sequence[Told]]) -> Mapping[str, Scalar]:
        """The next assignment to try.

        Args:
            history: gives all earlier trials that have ended; only called when a new batch of
                proposals is due.
        """
        if not self._queue:
            self._queue.extend(self._batch(history()) if self._proposed else self._first())
            self._proposed |= {i.candidate.key for i in self._queue}
        return self._queue.popleft().assignment

    def _first(self) -> list[Individual]:
        """Ends and middle of the space, then whatever comes."""
        seeds = [self._space.smallest(), self._space.largest()]
        seeds += [self._space.candidate(a) for a in scalings(self._space, SCALINGS)]
        seeds += self._space.sample(FIRST, self._rng.randrange(2**31))
        found = {c.key: Individual(c, self._space.assignment(c)) for c in seeds}
        return list(found.values())[:FIRST]

    def _batch(self, history: Sequence[Told]) -> list[Individual]:
        told = [(self._individual(t.assignment), t.scores) for t in history]
        self._proposed |= {i.candidate.key for i, _ in told}
        scored = [(i, s) for i, s in told if s]
        wanted = max(BATCH, len(scored) // 20)
        if len(scored) < 2:
            return self._random(wanted)
        predict = self._learn(scored)
        losses = np.array([self._losses(i, s) for i, s in scored])
        excess = np.array([self._excess(i, s) for i, s in scored])
        front = losses[excess <= 0]
        front = front[nondominated(front)]
        order = survival(losses, excess)[: POPULATION // 2]
        start = [scored[i][0] for i in order] + self._random(POPULATION // 2)
        met = evolve(self._space, start, predict, self._rng, POPULATION, GENERATIONS)
        unseen = [i for i in met if i.candidate.key not in self._proposed]
        self._forget(met)
        if not unseen:
            return self._random(wanted)
        values, over = predict(unseen)
        fittest = survival(values, over)[:POOL]
        chosen = choose(values[fittest[over[fittest] <= 0]], front, wanted)
        return [unseen[fittest[i]] for i in chosen] or self._random(wanted)

    def _learn(
        self, scored: Sequence[tuple[Individual, Mapping[str, float]]]
    ) -> Callable[[Sequence[Individual]], tuple[Array, Array]]:
        """Fit a predictor to each scored metric; a function that gives losses and excess."""
        latest = scored[-EXAMPLES:]
        features = self._features([i for i, _ in latest])
        names = [o.name for o in self._objectives if o.name in latest[0][1]]
        models = {
            name: GaussianProcess.fit(features, np.array([s[name] for _, s in latest]))
            for name in names
        }

        def predict(individuals: Sequence[Individual]) -> tuple[Array, Array]:
            features = self._features(individuals)
            hopes: dict[str, Array] = {}
            for o in self._objectives:
                if o.name in models:
                    mean, spread = models[o.name].predict(features)
                    hopes[o.name] = mean + (OPTIMISM if o.maximise else -OPTIMISM) * spread
            rows = [
                {name: float(hope[n]) for name, hope in hopes.items()}
                for n in range(len(individuals))
            ]
            pairs = list(zip(individuals, rows, strict=True))
            return (
                np.array([self._losses(i, s) for i, s in pairs]),
                np.array([self._excess(i, s) for i, s in pairs]),
            )

        return predict

    def _individual(self, assignment: Mapping[str, Scalar]) -> Individual:
        return Individual.of(self._space, assignment)

    def _random(self, n: int) -> list[Individual]:
        found = self._space.sample(n, self._rng.randrange(2**31))
        return [Individual(c, self._space.assignment(c)) for c in found]

    def _facts(self, individual: Individual) -> _Facts:
        key = individual.candidate.key
        if key not in self._known:
            costs = self._costs(individual.candidate)
            logs = np.log([max(costs[name], 1e-9) for name in sorted(costs)])
            features = np.concatenate([self._encode(individual.assignment), logs])
            self._known[key] = _Facts(costs, features)
        return self._known[key]

    def _features(self, individuals: Sequence[Individual]) -> Array:
        return np.array([self._facts(i).features for i in individuals])

    def _losses(self, individual: Individual, scores: Mapping[str, float]) -> Array:
        metrics = {**self._facts(individual).costs, **scores}
        return np.array([o.loss(metrics[o.name]) for o in self._objectives if o.traded])

    def _excess(self, individual: Individual, scores: Mapping[str, float]) -> float:
        metrics = {**self._facts(individual).costs, **scores}
        return sum(max(0.0, v) for v in violations(metrics, self._objectives).values())

    def _forget(self, latest: Sequence[Individual]) -> None:
        """Keep only facts that are likely to be asked for again."""
        keep = self._proposed | {i.candidate.key for i in latest}
        self._known = {key: facts for key, facts in self._known.items() if key in keep}


def choose(values: Array, front: Array, n: int) -> list[int]:
    """Indices of up to `n` points that add the most hypervolume to a front, one by one.

    What a point adds only shrinks as others are chosen, so only those that may still be the
    best are looked at again.

    Args:
        values: losses (N, M).
        front: losses (K, M) of what is known.
        n: how many.
    """
    together = np.vstack([front, values])
    box = Box.of_points(together[nondominated(together)])
    scaled, known = box.scale(values), box.scale(front)
    one = np.ones(values.shape[1])
    heap = [(-np.inf, i) for i in range(len(values))]
    chosen: list[int] = []
    fresh = set[int]()
    while heap and len(chosen) < n:
        _, i = heapq.heappop(heap)
        if i in fresh:
            chosen.append(i)
            known = np.vstack([known, scaled[i]])
            fresh.clear()
        else:
            heapq.heappush(heap, (-exclusive(scaled[i], known, one), i))
            fresh.add(i)
    return chosen
