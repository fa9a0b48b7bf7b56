"""Surrogate: predicts scores from the trials so far, and proposes the most promising candidates.

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

import numpy as np
from numpy.typing import NDArray

from ...spaces import Candidate, Choice, Scalar, SearchSpace
from ..pareto.dominance import nondominated
from ..pareto.hypervolume import Box, exclusive
from ..pareto.objectives import Objective, Price, violations
from ..pareto.sorting import survival
from ..scoring.gaussian_process import GaussianProcess
from .choice_encoder import Encoder
from .genetic import Individual, evolve
from .task import History, Told
from .uniform_scaling import rounded, scalings

Array = NDArray[np.float64]

FIRST, SCALINGS = 10, 5  # trials before anything is predicted, and how many of them are scalings
BATCH, SHARE = 8, 0.1  # proposals from one prediction, at least, and as a share of the scores
POPULATION, GENERATIONS = 60, 12
OPTIMISM = 0.25  # standard deviations
EXAMPLES = 1000  # that a prediction learns from; its time grows with their cube
POOL = 150  # of the individuals that were met, those among which proposals are chosen
TRIES = 200  # random candidates, if the inner search met nothing new


Scored = Sequence[tuple[Individual, Mapping[str, float]]]
Predict = Callable[[Sequence[Individual]], tuple[Array, Array]]


class Surrogate:
    """Proposes assignments; the same history gives the same proposals.

    Args:
        space: where to search.
        objectives: metrics to trade, and limits.
        price: gives exact costs of candidates; a metric that is not among them is predicted.
        seed: of the first trials and of the inner search.
        free: which choices vary.
        bases: candidates from which the other choices are taken; by default the largest.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        price: Price,
        seed: int,
        free: Callable[[Choice], bool] = lambda _: True,
        bases: Sequence[Individual] = (),
    ) -> None:
        self._space, self._objectives = space, list(objectives)
        self._rng = random.Random(seed)
        self._free = {choice.name for choice in space.parameters if free(choice)}
        self._bases = list(bases) or [Individual.of(space, {})]
        self._facts = _Facts(space, price)
        self._met: dict[tuple[tuple[str, Scalar], ...], Individual] = {}  # in the history
        self._proposed: set[Candidate] = set()
        self._queue: deque[Individual] = deque()
        self._alive: list[Individual] = []  # after the latest inner search

    def propose(self, history: History) -> Mapping[str, Scalar] | None:
        """The next assignment to try, or None if there is no new one.

        Args:
            history: gives all earlier trials that have ended; only called when a new batch of
                proposals is due.
        """
        if not self._queue:
            self._queue.extend(self._batch(history()) if self._proposed else self._first())
            self._proposed |= {i.candidate for i in self._queue}
        return self._queue.popleft().assignment if self._queue else None

    def _first(self) -> list[Individual]:
        """The ends, the largest in 8 bits, free choices in steps between the ends, random ones."""
        ends = [self._space.smallest(), self._space.largest()]
        seeds = [self._space.assignment(c) for c in ends]
        seeds += rounded(self._space) + scalings(self._space, SCALINGS)
        scaled = [self._vary(self._bases[0], seed) for seed in seeds]
        return self._unseen(scaled + self._random(TRIES))[:FIRST]

    def _batch(self, history: Sequence[Told]) -> list[Individual]:
        told = [(self._told(t.assignment), t.scores) for t in history]
        self._proposed |= {i.candidate for i, _ in told}
        scored = [(i, s) for i, s in told if s]
        wanted = max(BATCH, int(len(scored) * SHARE))
        if len(scored) > 1 and (best := self._most_promising(scored, wanted)):
            return best
        return self._unseen(self._random(TRIES))[:wanted]

    def _most_promising(self, scored: Scored, n: int) -> list[Individual]:
        """The best individuals of an inner search that were never proposed."""
        known, scores = [i for i, _ in scored], _columns([s for _, s in scored])
        self._facts.keep(known)
        predict = self._learn(known[-EXAMPLES:], scores)
        losses, excess = self._losses_and_excess(self._facts(known)[1] | scores)
        third = POPULATION // 3
        best = [known[i] for i in survival(losses, excess)[:third]]
        start = best + self._alive[:third] + self._random(third)
        met = evolve(self._space, start, predict, self._rng, POPULATION, GENERATIONS, self._free)
        self._alive = met[:POPULATION]
        if not (unseen := self._unseen(met)):
            return []
        hopes, over = predict(unseen)
        pool = survival(hopes, over)[:POOL]
        if over[pool[0]] > 0:
            return [unseen[i] for i in pool[:n]]
        pool = pool[over[pool] <= 0]
        return [unseen[pool[i]] for i in choose(hopes[pool], losses[excess <= 0], n)]

    def _learn(self, latest: Sequence[Individual], scores: Mapping[str, Array]) -> Predict:
        """A function from individuals to their losses and excess, predicted optimistically."""
        features, _ = self._facts(latest)
        models = {
            o: GaussianProcess.fit(features, scores[o.name][-len(latest) :])
            for o in self._objectives
            if o.name in scores
        }

        def predict(individuals: Sequence[Individual]) -> tuple[Array, Array]:
            features, metrics = self._facts(individuals)
            for o, model in models.items():
                mean, spread = model.predict(features)
                metrics[o.name] = mean + (1 if o.maximize else -1) * OPTIMISM * spread
            return self._losses_and_excess(metrics)

        return predict

    def _losses_and_excess(self, metrics: Mapping[str, Array]) -> tuple[Array, Array]:
        """Losses (N, M) of the traded objectives, and the excess over all limits (N,)."""
        losses = np.column_stack([o.loss(metrics[o.name]) for o in self._objectives if o.traded])
        return losses, self._excess(metrics, len(losses))

    def _excess(self, metrics: Mapping[str, Array], n: int) -> Array:
        """Sum of the excess over limits on known metrics (N,)."""
        broken = violations(metrics, self._objectives).values()
        return sum((np.maximum(v, 0.0) for v in broken), np.zeros(n))

    def _told(self, assignment: Mapping[str, Scalar]) -> Individual:
        choices = tuple(assignment.items())
        if choices not in self._met:
            self._met[choices] = Individual.of(self._space, assignment)
        return self._met[choices]

    def _unseen(self, individuals: Sequence[Individual]) -> list[Individual]:
        """Individuals not proposed so far, those whose costs keep the limits if there are any."""
        new = {i.candidate: i for i in individuals if i.candidate not in self._proposed}
        unseen = list(new.values())
        excess = self._excess(self._facts(unseen)[1], len(unseen))
        return [i for i, over in zip(unseen, excess, strict=True) if over == 0] or unseen

    def _random(self, n: int) -> list[Individual]:
        drawn = [
            {c.name: self._rng.choice(c.values) for c in self._space.parameters} for _ in range(n)
        ]
        return [self._vary(self._rng.choice(self._bases), assignment) for assignment in drawn]

    def _vary(self, base: Individual, assignment: Mapping[str, Scalar]) -> Individual:
        """The free choices of an assignment, all others from a base."""
        free = {name: value for name, value in assignment.items() if name in self._free}
        return Individual.of(self._space, {**base.assignment, **free})


class _Facts:
    """Features and costs of individuals, each worked out once."""

    def __init__(self, space: SearchSpace, price: Price) -> None:
        self._price, self._encode = price, Encoder(space.parameters)
        self._rows: dict[Individual, int] = {}
        self._features, self._costs = np.empty((0, 0)), dict[str, Array]()

    def __call__(self, individuals: Sequence[Individual]) -> tuple[Array, dict[str, Array]]:
        """Features (N, D), and costs (N,) by name."""
        if new := [i for i in dict.fromkeys(individuals) if i not in self._rows]:
            self._learn(new)
        rows = [self._rows[i] for i in individuals]
        return self._features[rows], {name: c[rows] for name, c in self._costs.items()}

    def keep(self, individuals: Sequence[Individual]) -> None:
        """Forget all others."""
        kept = list(dict.fromkeys(individuals))
        self._features, self._costs = self(kept)
        self._rows = {individual: row for row, individual in enumerate(kept)}

    def _learn(self, new: Sequence[Individual]) -> None:
        costs = _columns(self._price([i.candidate for i in new]))
        logs = [np.log(np.maximum(costs[name], 1e-9)) for name in sorted(costs)]
        features = np.column_stack([self._encode([i.assignment for i in new]), *logs])
        if self._rows:
            features = np.vstack([self._features, features])
            costs = {name: np.concatenate([self._costs[name], costs[name]]) for name in costs}
        self._features, self._costs = features, costs
        self._rows |= {i: row for row, i in enumerate(new, len(self._rows))}


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Array]:
    """Values of all rows, an array (N,) for each name."""
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def choose(values: Array, front: Array, n: int) -> list[int]:
    """Indices of up to `n` points that add the most hypervolume to a front, one by one.

    The volume that a point adds only shrinks as others are chosen, so only points that may still
    be the best are computed again.

    Args:
        values: losses (N, M), at least one.
        front: known losses (K, M); K may be 0.
        n: number of points.
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
