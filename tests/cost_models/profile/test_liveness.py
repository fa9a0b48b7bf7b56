"""Planned memory: against brute force, no two live values in one place, peaks in their order."""

import random
from itertools import combinations, permutations

import pytest

from vitpareto.cost_models.profile import liveness
from vitpareto.cost_models.profile.liveness import (
    Step,
    best_order,
    lifetimes,
    live_peak,
    peaks,
    plan,
)


def drawn(seed: int, count: int) -> tuple[list[Step], dict[str, int]]:
    """A random graph: steps that read earlier values, some of which nothing reads."""
    rng = random.Random(seed)
    sizes, steps = {"in": rng.randrange(1, 50)}, list[Step]()
    for i in range(count):
        reads = tuple(rng.sample(sorted(sizes), rng.randint(1, min(3, len(sizes)))))
        writes = tuple(f"{i}.{j}" for j in range(1 + (rng.random() < 0.2)))
        sizes |= {name: rng.randrange(1, 50) for name in writes}
        steps.append(Step(reads, writes))
    return steps, sizes


def possible(steps: list[Step]) -> list[list[Step]]:
    """Every order in which each value is made before it is read."""
    orders: list[list[Step]] = []
    for order in permutations(steps):
        known, fine = {"in"}, True
        for step in order:
            fine = fine and known >= {*step.reads}
            known |= {*step.writes}
        if fine:
            orders.append(list(order))
    return orders


@pytest.mark.parametrize("seed", range(40))
def test_the_best_order_is_that_of_brute_force(seed: int) -> None:
    steps, sizes = drawn(seed, 2 + seed % 5)
    order = [steps[i] for i in best_order(steps, sizes)]
    orders = possible(steps)
    assert order in orders
    assert live_peak(order, sizes) == min(live_peak(other, sizes) for other in orders)


@pytest.mark.parametrize("seed", range(40))
def test_live_values_share_no_byte(seed: int) -> None:
    steps, sizes = drawn(seed, 20)
    lives, (offsets, size) = lifetimes(steps, sizes), plan(steps, sizes)
    assert offsets.keys() == sizes.keys()
    for one, other in combinations(sizes, 2):
        apart = lives[one][1] < lives[other][0] or lives[other][1] < lives[one][0]
        first, second = sorted((one, other), key=offsets.__getitem__)
        assert apart or offsets[first] + sizes[first] <= offsets[second]
    assert live_peak(steps, sizes) <= size == max(offsets[n] + sizes[n] for n in sizes)


@pytest.mark.parametrize("seed", range(40))
def test_peaks_are_in_their_order(seed: int) -> None:
    steps, sizes = drawn(seed, 3 + seed % 12)
    found = peaks(steps, sizes)
    assert sum(sizes.values()) == found.naive >= found.reused >= found.reordered
    needed = max(sum(sizes[n] for n in {*step.reads, *step.writes}) for step in steps)
    assert found.reordered >= needed


def test_reading_early_what_is_large_saves_memory() -> None:
    """Two large values that become small: one after the other, not both at once."""
    steps = [
        Step(("in",), ("large",)),
        Step(("in",), ("other",)),
        Step(("large",), ("small",)),
        Step(("other",), ("tiny",)),
        Step(("small", "tiny"), ("out",)),
    ]
    sizes = {"in": 1, "large": 100, "other": 100, "small": 1, "tiny": 1, "out": 1}
    found = peaks(steps, sizes)
    assert (found.naive, found.reused, found.reordered) == (204, 201, 102)


def test_a_graph_that_is_too_wide_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "MOST_STATES", 3)
    steps, sizes = drawn(1, 9)
    assert best_order(steps, sizes) == list(range(9))
