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

from ..spaces import Candidate, Choice, Scalar, SearchSpace
from .encode import Encoder
from .gaussian import GaussianProcess
from .genetic import Individual, evolve, survival
from .hypervolume import Box, exclusive, nondominated
from .objectives import Objective, violations
from .proposer import History, Told
from .scaling import scalings

Array = NDArray[np.float64]

FIRST, SCALINGS = 10, 5  # trials before anything is predicted, and how many of them are scalings
BATCH = 6  # proposals from one prediction; from 120 scores on a twentieth of them
POPULATION, GENERATIONS = 60, 12
OPTIMISM = 0.25  # standard deviations
EXAMPLES = 1000  # that a prediction learns from; its time grows with their cube
POOL = 150  # of the individuals that were met, those among which proposals are chosen
TRIES = 200  # random candidates, if the inner search met nothing new


Scored = Sequence[tuple[Individual, Mapping[str, float]]]
Predict = Callable[[Sequence[Individual]], tuple[Array, Array]]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is computed once for an individual."""

    costs: Mapping[str, float]
    features: Array


class Surrogate:
    """Proposes assignments; the same history gives the same proposals.

    Args:
        space: where to search.
        objectives: what is sought, and limits.
        costs: exact costs of a candidate; a metric that is not among them is predicted.
        seed: of the first trials and of the inner search.
        free: which choices vary.
        bases: candidates from which the other choices are taken; by default the largest.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        costs: Callable[[Candidate], Mapping[str, float]],
        seed: int,
        free: Callable[[Choice], bool] = lambda _: True,
        bases: Sequence[Individual] = (),
    ) -> None:
        self._space, self._objectives, self._costs = space, list(objectives), costs
        self._rng = random.Random(seed)
        self._free = {choice.name for choice in space.parameters if free(choice)}
        self._bases = list(bases) or [Individual.of(space, {})]
        self._encode = Encoder(space.parameters)
        self._known: dict[str, _Facts] = {}
        self._met: dict[tuple[tuple[str, Scalar], ...], Individual] = {}  # in the history
        self._proposed: set[str] = set()
        self._queue: deque[Individual] = deque()

    def propose(self, history: History) -> Mapping[str, Scalar] | None:
        """The next assignment to try, or None if nothing new was found.

        Args:
            history: gives all earlier trials that have ended; only called when a new batch of
                proposals is due.
        """
        if not self._queue:
            self._queue.extend(self._batch(history()) if self._proposed else self._first())
            self._proposed |= {i.candidate.key for i in self._queue}
        return self._queue.popleft().assignment if self._queue else None

    def _first(self) -> list[Individual]:
        """The free choices from the smallest to the largest, then as they come."""
        ends = [self._space.smallest(), self._space.largest()]
        seeds = [self._space.assignment(c) for c in ends] + scalings(self._space, SCALINGS)
        found = [self._vary(self._bases[0], seed) for seed in seeds] + self._random(TRIES)
        return self._unseen(found)[:FIRST]

    def _batch(self, history: Sequence[Told]) -> list[Individual]:
        told = [(self._told(t.assignment), t.scores) for t in history]
        self._proposed |= {i.candidate.key for i, _ in told}
        scored = [(i, s) for i, s in told if s]
        wanted = max(BATCH, len(scored) // 20)
        if len(scored) > 1 and (found := self._most_promising(scored, wanted)):
            return found
        return self._unseen(self._random(TRIES))[:wanted]

    def _most_promising(self, scored: Scored, n: int) -> list[Individual]:
        """The best of what an inner search meets and was never proposed."""
        predict = self._learn(scored)
        losses, excess = self._judge(scored)
        order = survival(losses, excess)[: POPULATION // 2]
        start = [scored[i][0] for i in order] + self._random(POPULATION // 2)
        met = evolve(self._space, start, predict, self._rng, POPULATION, GENERATIONS, self._free)
        self._forget_all_but(met)
        if not (unseen := self._unseen(met)):
            return []
        hopes, over = predict(unseen)
        pool = survival(hopes, over)[:POOL]
        if over[pool[0]] > 0:
            return [unseen[i] for i in pool[:n]]
        pool = pool[over[pool] <= 0]
        return [unseen[pool[i]] for i in choose(hopes[pool], losses[excess <= 0], n)]

    def _learn(self, scored: Scored) -> Predict:
        """A function from individuals to their losses and excess, as far as can be hoped."""
        latest = scored[-EXAMPLES:]
        features = self._features([i for i, _ in latest])
        models = {
            o: GaussianProcess.fit(features, np.array([s[o.name] for _, s in latest]))
            for o in self._objectives
            if o.name in latest[0][1]
        }

        def predict(individuals: Sequence[Individual]) -> tuple[Array, Array]:
            features = self._features(individuals)
            columns: dict[str, list[float]] = {}
            for o, model in models.items():
                mean, spread = model.predict(features)
                columns[o.name] = (mean + (1 if o.maximise else -1) * OPTIMISM * spread).tolist()
            rows = [
                {name: column[n] for name, column in columns.items()}
                for n in range(len(individuals))
            ]
            return self._judge(list(zip(individuals, rows, strict=True)))

        return predict

    def _judge(self, scored: Scored) -> tuple[Array, Array]:
        """Losses (N, M) of the traded objectives, and the excess over all limits (N,)."""
        metrics = [{**self._facts(i).costs, **scores} for i, scores in scored]
        traded = [o for o in self._objectives if o.traded]
        losses = [[o.loss(m[o.name]) for o in traded] for m in metrics]
        return np.array(losses), np.array([self._excess(m) for m in metrics])

    def _excess(self, metrics: Mapping[str, float]) -> float:
        return sum(max(0.0, v) for v in violations(metrics, self._objectives).values())

    def _told(self, assignment: Mapping[str, Scalar]) -> Individual:
        choices = tuple(assignment.items())
        if choices not in self._met:
            self._met[choices] = Individual.of(self._space, assignment)
        return self._met[choices]

    def _features(self, individuals: Sequence[Individual]) -> Array:
        return np.array([self._facts(i).features for i in individuals])

    def _facts(self, individual: Individual) -> _Facts:
        key = individual.candidate.key
        if key not in self._known:
            costs = self._costs(individual.candidate)
            logs = np.log([max(costs[name], 1e-9) for name in sorted(costs)])
            features = np.concatenate([self._encode(individual.assignment), logs])
            self._known[key] = _Facts(costs, features)
        return self._known[key]

    def _forget_all_but(self, latest: Sequence[Individual]) -> None:
        keep = self._proposed | {i.candidate.key for i in latest}
        self._known = {key: facts for key, facts in self._known.items() if key in keep}

    def _unseen(self, individuals: Sequence[Individual]) -> list[Individual]:
        """Those that were not proposed; if the costs of some keep the limits, only these."""
        found = {i.candidate.key: i for i in individuals}
        unseen = [i for key, i in found.items() if key not in self._proposed]
        return [i for i in unseen if self._excess(self._facts(i).costs) == 0] or unseen

    def _random(self, n: int) -> list[Individual]:
        drawn = self._space.sample(n, self._rng.randrange(2**31))
        return [self._vary(self._rng.choice(self._bases), self._space.assignment(c)) for c in drawn]

    def _vary(self, base: Individual, assignment: Mapping[str, Scalar]) -> Individual:
        """The free choices of an assignment, all others from a base."""
        free = {name: value for name, value in assignment.items() if name in self._free}
        return Individual.of(self._space, {**base.assignment, **free})


def choose(values: Array, front: Array, n: int) -> list[int]:
    """Indices of up to `n` points that add the most hypervolume to a front, one by one.

    What a point adds only shrinks as others are chosen, so only those that may still be the
    best are looked at again.

    Args:
        values: losses (N, M), at least one.
        front: losses (K, M) of what is known; K may be 0.
        n: how many.
    """
    together = np.vstack([front.reshape(-1, values.shape[1]), values])
    box = Box.of_points(together[nondominated(together)])
    scaled, known = box.scale(values), box.scale(together[: len(front)])
    known = known[nondominated(known)]
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
