import itertools
import math
import random
from dataclasses import dataclass

import numpy as np
import pytest

from vitpareto.search.pareto.hypervolume import Box, hypervolume
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.pareto.subset import dominant


@dataclass(frozen=True)
class Point:
    metrics: dict[str, float]


TWO = [Objective("accuracy"), Objective("latency_ms")]


def front(n: int, seed: int) -> list[Point]:
    rng = random.Random(seed)
    accuracies = sorted(rng.sample(range(1000), n))
    latencies = sorted(rng.sample(range(1, 1000), n))
    pairs = zip(accuracies, latencies, strict=True)
    points = [Point({"accuracy": a / 1000, "latency_ms": ms / 10}) for a, ms in pairs]
    return rng.sample(points, n)


def losses(points: list[Point]) -> np.ndarray:
    pairs = [(p.metrics["accuracy"], p.metrics["latency_ms"]) for p in points]
    return np.array([(-accuracy, math.log(ms)) for accuracy, ms in pairs])


@pytest.mark.parametrize("seed", range(20))
def test_no_other_members_with_the_best_dominate_more(seed: int) -> None:
    points, n = front(9, seed), seed % 5 + 1
    box, best = Box.of_points(losses(points)), max(points, key=lambda p: p.metrics["accuracy"])

    def volume(some: list[Point]) -> float:
        return hypervolume(box.scale(losses(some)), np.ones(2))

    others = itertools.combinations([p for p in points if p is not best], n - 1)
    chosen = dominant(points, n, TWO)
    assert len({id(p) for p in chosen}) == n and chosen[-1] is best
    assert volume(chosen) == pytest.approx(max(volume([*some, best]) for some in others))
    assert [p.metrics["latency_ms"] for p in chosen] == sorted(
        p.metrics["latency_ms"] for p in chosen
    )


def test_all_of_a_small_front_are_chosen() -> None:
    points = front(3, 0)
    assert {id(p) for p in dominant(points, 4, TWO)} == {id(p) for p in points}
    assert dominant(points[:1], 2, TWO[:1]) == points[:1]


def test_ends_that_cost_much_for_little_are_left_out() -> None:
    """A front of 20 candidates as a search at 224 pixels found it."""
    found = [(2.07, 0.39), (4.65, 0.74), (7.1, 0.81), (20.9, 0.86), (35.6, 0.91)]
    points = [Point({"accuracy": accuracy, "latency_ms": ms}) for ms, accuracy in found]
    assert [p.metrics["latency_ms"] for p in dominant(points, 3, TWO)] == [4.65, 7.1, 35.6]


def test_two_costs_are_traded_by_ratios() -> None:
    costs = [Objective("latency_ms"), Objective("size_mb")]
    points = [Point({"latency_ms": ms, "size_mb": 1 / ms}) for ms in (1.0, 10.0, 100.0)]
    scaled = [Point({"latency_ms": 7 * p.metrics["latency_ms"], **p.metrics}) for p in points]
    for some in (points, scaled):
        chosen = dominant(some, 2, costs)
        assert [p.metrics["latency_ms"] for p in chosen] == [10.0, 1.0]
