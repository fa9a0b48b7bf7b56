import itertools
import random
from dataclasses import dataclass

import pytest

from vitpareto.search.config import load_config
from vitpareto.search.pareto.objectives import (
    Objective,
    goal,
    pareto_front,
    violations,
)
from vitpareto.spaces.errors import ConfigError


@dataclass(frozen=True)
class Point:
    metrics: dict[str, float]


TWO = [Objective("accuracy"), Objective("latency_ms")]


def points(n: int, seed: int) -> list[Point]:
    rng = random.Random(seed)
    # Few distinct values, so that ties occur.
    return [
        Point({"accuracy": rng.randrange(12) / 12, "latency_ms": float(rng.randrange(1, 12))})
        for _ in range(n)
    ]


def dominates(a: Point, b: Point) -> bool:
    pairs = [(-a.metrics["accuracy"], -b.metrics["accuracy"])]
    pairs.append((a.metrics["latency_ms"], b.metrics["latency_ms"]))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


@pytest.mark.parametrize("seed", range(20))
def test_front_is_what_nothing_dominates(seed: int) -> None:
    all_points = points(60, seed)
    front = pareto_front(all_points, TWO)
    for member, other in itertools.product(front, all_points):
        assert not dominates(other, member)
    for point in all_points:
        kept = point.metrics in [member.metrics for member in front]
        assert kept or any(dominates(member, point) for member in front)
    values = [tuple(member.metrics.values()) for member in front]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("seed", range(5))
def test_a_front_is_in_order_with_the_first_of_equal_members(seed: int) -> None:
    all_points = points(60, seed)
    front = pareto_front(all_points, TWO)
    assert front == sorted(front, key=lambda point: -point.metrics["accuracy"])
    for member in front:
        equal = [point for point in all_points if point.metrics == member.metrics]
        assert member is equal[0]
    assert pareto_front([], TWO) == []


def test_members_of_a_front_are_not_compared_one_by_one() -> None:
    """Searches have 100,000 candidates, and fronts thousands of members."""
    compared = 0

    class Latency(float):
        def __le__(self, other: float) -> bool:
            nonlocal compared
            compared += 1
            return float(self) <= other

    n = 300
    all_points = [Point({"accuracy": i / n, "latency_ms": Latency(i + 1)}) for i in range(n)]
    assert pareto_front(all_points, TWO) == all_points[::-1]
    assert compared < 10 * n


def test_limits_come_before_the_front() -> None:
    fast, slow = (
        Point({"accuracy": 0.5, "latency_ms": 1.0}),
        Point({"accuracy": 0.9, "latency_ms": 3.0}),
    )
    assert pareto_front([fast, slow], [TWO[0], Objective("latency_ms", 2.0)]) == [fast]
    assert pareto_front([fast, slow], [Objective("accuracy", 0.8), TWO[1]]) == [slow]


def test_violations_are_ratios() -> None:
    limits = [Objective("latency_ms", 2.0), Objective("accuracy", 0.8), Objective("size_mb")]
    found = violations({"latency_ms": 3.0, "accuracy": 0.6, "size_mb": 9.0}, limits)
    assert found == pytest.approx({"latency_ms": 0.5, "accuracy": 0.25})
    assert violations({"latency_ms": 2.0}, limits) == {"latency_ms": 0.0}


def test_other_words_for_energy_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no such metric 'energy'\. Did you mean 'energy_mj'"):
        load_config("digits", ["search.objectives=[accuracy, energy]"])


def test_a_run_maximizes_the_first_accuracy_that_it_names() -> None:
    both = [Objective("macs"), Objective("balanced_accuracy"), Objective("accuracy", 0.9, False)]
    assert goal(both) == "balanced_accuracy" and goal(both[::-1]) == "accuracy"
    assert goal([Objective("macs")]) == "accuracy"
    assert Objective("balanced_accuracy", 0.8).violation(0.4) == 0.5


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_limits_are_above_0(limit: float) -> None:
    """Excess is relative to a limit: below 0 every model kept it, and nan was no limit at all."""
    with pytest.raises(ConfigError, match="a limit of latency_ms is above 0, got"):
        Objective("latency_ms", limit)
