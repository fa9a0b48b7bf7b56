"""Leaving: from which confidence on an exit answers, chosen for the accuracy that is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..training.accuracy import Z

NEVER = 2.0  # above every confidence
ROUNDING = 1e-9
PRICES = (0.0, *(10 ** (step / 12 - 3) for step in range(49)))  # of a whole run, in accuracy


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of thresholds and what comes of it.

    Attributes:
        above: confidence of each exit from which on it answers.
        shares: of the images that each part answers.
        accuracy: share of right answers.
        cost: mean over the images.
        cost_low: lower end of its 95% interval for other images.
        cost_high: upper end.
    """

    above: tuple[float, ...]
    shares: tuple[float, ...]
    accuracy: float
    cost: float
    cost_low: float
    cost_high: float


def reach_of(shares: Sequence[float]) -> list[float]:
    """Share of the images that run each part, from those that each answers.

    >>> reach_of([0.5, 0.25, 0.25])
    [1.0, 0.5, 0.25]
    """
    return [sum(shares[number:]) for number in range(len(shares))]


def leaving_of(shares: Sequence[float]) -> tuple[float, ...]:
    """Of the images at each exit, the share that leaves there, from what each part answers.

    >>> leaving_of((0.5, 0.25, 0.25))
    (0.5, 0.5)
    """
    return tuple(
        share / rest if rest > 0 else 0.0
        for share, rest in zip(shares[:-1], reach_of(shares), strict=False)
    )


def sureness(logits: Tensor) -> Tensor:
    """Probability of the likeliest class: (..., K) -> (...)."""
    return logits.softmax(-1).amax(-1)


def part_of(logits: Tensor, above: Sequence[float]) -> Tensor:
    """Part that answers each image (N,), from the logits of all parts (E, N, K)."""
    limits = torch.tensor([*above, 0.0], dtype=torch.float64)
    return (sureness(logits.double()) >= limits[:, None]).int().argmax(0)


def answers_of(logits: Tensor, part: Tensor) -> Tensor:
    """Answers (N, K) of the parts (N,) that give them, from those of all parts (E, N, K)."""
    return logits[part, torch.arange(len(part))]


def shares_of(part: Tensor, parts: int) -> tuple[float, ...]:
    """Share of the images (N,) that each part answers."""
    return tuple((part.bincount(minlength=parts).double() / len(part)).tolist())


def mean_cost(part: Tensor, costs: Sequence[float]) -> tuple[float, float, float]:
    """Mean of what images cost, and the 95% interval of this mean for other images like them.

    Args:
        part: that answers each image (N,).
        costs: of running each part.
    """
    each = torch.tensor(costs, dtype=torch.float64).cumsum(0)[part]
    mean = each.mean().item()
    half = Z * each.std().item() / math.sqrt(len(each)) if len(each) > 1 else 0.0
    whole = sum(costs)
    return mean, max(min(costs[0], mean), mean - half), min(max(whole, mean), mean + half)


@dataclass(frozen=True)
class TradeOff:
    """What thresholds come to on some images.

    Attributes:
        logits: of all parts (E, N, K), calibrated.
        right: weight of each image where a part is right, else 0 (E, N).
        sure: confidence of each part (E, N).
        costs: of running each part.
    """

    logits: Tensor
    right: Tensor
    sure: Tensor
    costs: Sequence[float]

    @classmethod
    def of(
        cls, logits: Tensor, labels: Tensor, costs: Sequence[float], weights: Tensor | None = None
    ) -> TradeOff:
        """The trade-off of a model's answers.

        Args:
            logits: of all parts (E, N, K), calibrated.
            labels: (N,).
            costs: of running each part.
            weights: of the images (N,), 1 on average; all alike by default.
        """
        counted = torch.ones(len(labels)) if weights is None else weights
        right = (logits.argmax(-1) == labels).double() * counted.double()
        return cls(logits, right, sureness(logits.double()), costs)

    @property
    def whole(self) -> float:
        """Accuracy where nobody leaves."""
        return self.right[-1].mean().item()

    def point(self, above: Sequence[float]) -> Point:
        """What comes of some thresholds."""
        part = part_of(self.logits, above)
        accuracy = answers_of(self.right[..., None], part).mean().item()
        shares = shares_of(part, len(self.logits))
        return Point(tuple(above), shares, accuracy, *mean_cost(part, self.costs))

    def curve(self) -> list[Point]:
        """The thresholds that trade accuracy against mean cost best, the cheapest first.

        For each price of a run, thresholds are set from the last exit to the first: each where
        answering at once is worth the most, given what the later ones do.
        """
        run = self._run / self._run[-1]
        chosen = {self._thresholds(self.right - price * run[:, None]) for price in PRICES}
        chosen.add((NEVER,) * (len(self.logits) - 1))
        return best_of(map(self.point, chosen))

    def cheapest(self, least: float) -> Point:
        """The cheapest point of some accuracy, or else the most accurate one.

        From the best of the curve each threshold is moved to where cost is least, as long as that
        helps; with one exit nothing is cheaper.
        """
        points = self.curve()
        good = [point for point in points if point.accuracy >= least - ROUNDING]
        if not good:
            return max(points, key=lambda p: p.accuracy)
        found = good[0]
        while True:
            moved = [self._moved(found.above, exit, least) for exit in range(len(found.above))]
            better = min(map(self.point, moved), key=lambda p: p.cost)
            if better.accuracy < least - ROUNDING or better.cost >= found.cost * (1 - ROUNDING):
                return found
            found = better

    @property
    def _run(self) -> Tensor:
        """Cost until each part has answered (E,)."""
        return torch.tensor(self.costs, dtype=torch.float64).cumsum(0)

    def _thresholds(self, worth: Tensor) -> tuple[float, ...]:
        """Thresholds of the exits that are worth the most, from what answers are worth (E, N)."""
        later, above = worth[-1], list[float]()
        for own, sure in zip(reversed(worth[:-1]), reversed(self.sure[:-1]), strict=True):
            gains, limits = _cuts(sure, own - later)
            above.append(limits[int(gains.argmax())])
            later = torch.where(sure >= above[-1], own, later)
        return tuple(reversed(above))

    def _moved(self, above: Sequence[float], exit: int, least: float) -> tuple[float, ...]:
        """The same with the threshold of an exit where the mean cost is least."""
        before = part_of(self.logits, [*above[:exit], *(NEVER for _ in above[exit:])]) < exit
        others = part_of(self.logits, [*above[:exit], NEVER, *above[exit + 1 :]])
        right = answers_of(self.right[..., None], others)[:, 0]
        stays = before.logical_not().double()
        gained, limits = _cuts(self.sure[exit], stays * (self.right[exit] - right))
        saved, _ = _cuts(self.sure[exit], stays * (self._run[others] - self._run[exit]))
        kept = right.sum() + gained >= len(right) * least - ROUNDING
        best = int(saved.masked_fill(~kept, -torch.inf).argmax())
        return (*above[:exit], limits[best] if kept[best] else above[exit], *above[exit + 1 :])


def best_of(points: Iterable[Point]) -> list[Point]:
    """Points than which none is cheaper and as accurate, the cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def _cuts(sure: Tensor, gain: Tensor) -> tuple[Tensor, list[float]]:
    """Sums of what is gained where the surest answer, nobody first, and the threshold of each.

    Images of one confidence answer together.

    Args:
        sure: confidence of each image (N,).
        gain: by its answering (N,).
    """
    order = sure.argsort(descending=True, stable=True)
    ranked = sure[order]
    ends = torch.cat([ranked[1:] < ranked[:-1], torch.tensor([True])])
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), gain[order].cumsum(0)[ends]])
    middles = (ranked[:-1] + ranked[1:])[ends[:-1]] / 2
    return sums, [NEVER, *middles.tolist(), 0.0]
