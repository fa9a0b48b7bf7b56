import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from vitpareto.search.pareto.dominance import nondominated, ranks
from vitpareto.search.pareto.hypervolume import Archive, Box, exclusive, hypervolume
from vitpareto.search.pareto.objectives import Objective
from vitpareto.spaces import Candidate, SearchSpace

Array = NDArray[np.float64]


def cloud(n: int, m: int, seed: int) -> Array:
    """Points of which about half are beaten, some equal, and some beyond the reference."""
    rng = np.random.default_rng(seed)
    points = np.round(rng.random((n, m)) ** 0.7 * 1.15, 1 if seed % 2 else 6)
    return np.vstack([points, points[:2]])


def by_inclusion_and_exclusion(points: Array, reference: Array) -> float:
    """Exact and slow: unions of boxes from all their intersections."""
    gains = np.maximum(reference - points, 0.0)
    return sum(
        (-1) ** (size + 1) * float(gains[list(some)].min(0).prod())
        for size in range(1, len(gains) + 1)
        for some in itertools.combinations(range(len(gains)), size)
    )


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_against_inclusion_and_exclusion(m: int, seed: int) -> None:
    points, reference = cloud(8, m, seed), np.ones(m)
    assert hypervolume(points, reference) == pytest.approx(
        by_inclusion_and_exclusion(points, reference), abs=1e-12
    )


@pytest.mark.parametrize("m", [2, 3, 4])
def test_against_monte_carlo(m: int) -> None:
    points, reference = cloud(60, m, 0), np.full(m, 1.1)
    drawn = 1.1 * np.random.default_rng(1).random((100_000, m))
    hit = (points[:, None] <= drawn).all(2).any(0)
    error = 4 * hit.std() / len(hit) ** 0.5
    assert hypervolume(points, reference) / 1.1**m == pytest.approx(hit.mean(), abs=error)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_laws(m: int, seed: int) -> None:
    points, reference = cloud(30, m, seed), np.ones(m)
    volume = hypervolume(points, reference)
    rng = np.random.default_rng(seed)
    # The order of points, and of objectives, has no part in it.
    assert hypervolume(rng.permutation(points), reference) == pytest.approx(volume)
    assert hypervolume(points[:, rng.permutation(m)], reference) == pytest.approx(volume)
    # Only the front counts.
    assert hypervolume(points[nondominated(points)], reference) == pytest.approx(volume)
    # More points, or better ones, never dominate less.
    more = np.vstack([points, rng.random(m)])
    assert hypervolume(more, reference) >= volume - 1e-12
    assert hypervolume(points - 0.1 * rng.random(points.shape), reference) >= volume
    # What a point adds is the difference that it makes.
    added = hypervolume(more, reference) - volume
    assert exclusive(more[-1], points, reference) == pytest.approx(added, abs=1e-12)
    # Stretching an axis stretches the volume.
    scale = rng.random(m) + 0.5
    assert hypervolume(points * scale, reference * scale) == pytest.approx(volume * scale.prod())


def test_nothing_and_a_corner() -> None:
    reference = np.array([2.0, 3.0, 4.0])
    assert hypervolume(np.empty((0, 3)), reference) == 0
    assert hypervolume(np.array([[1.0, 1.0, 1.0]]), reference) == 6
    assert hypervolume(np.array([[1.0, 1.0, 4.0]]), reference) == 0


@pytest.mark.parametrize("m", [2, 3])
def test_ranks_are_what_is_left_when_fronts_are_taken_away(m: int) -> None:
    points = cloud(40, m, 3)
    found = ranks(points)
    for i, point in enumerate(points):
        better = [
            found[j]
            for j, other in enumerate(points)
            if (other <= point).all() and ((other < point).any() or j < i)
        ]
        assert found[i] == max(better, default=-1) + 1


@pytest.mark.parametrize("m", [2, 3])
def test_an_archive_is_up_to_date(m: int) -> None:
    points = cloud(80, m, 5)
    box = Box(np.full(m, 0.1), np.ones(m))
    archive = Archive(box)
    for n, point in enumerate(points, 1):
        before = archive.volume
        gain = archive.add(point.tolist())
        assert archive.volume == pytest.approx(before + gain)
        assert archive.volume == pytest.approx(box.volume(points[:n]))
    front = points[nondominated(points)]
    assert sorted(map(tuple, archive.losses)) == sorted(map(tuple, front))


def test_the_box_of_a_space_ends_at_its_limits(space: SearchSpace) -> None:
    def costs(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        stages = [candidate.architecture.stages[0] for candidate in candidates]
        return [{"latency_ms": float(len(s.blocks)), "size_mb": s.width / 16} for s in stages]

    objectives = [
        Objective("accuracy", 0.5),
        Objective("latency_ms", 1.5),
        Objective("size_mb"),
        Objective("macs", 3.0, traded=False),
    ]
    box = Box.of_space(space, objectives, costs)
    assert box.best.tolist() == [-1, 1, 1]
    assert box.worst.tolist() == [-0.5, 1.5, 2]
    assert box.volume(np.array([[-0.75, 1.0, 1.5]])) == pytest.approx(0.25)
    assert box.volume(np.array([[-0.4, 1.0, 1.0]])) == 0


def test_the_box_of_a_space_holds_what_costs_less_than_the_smallest(space: SearchSpace) -> None:
    """As in spaces of bits, where kernels of few bits may be the slow ones."""

    def costs(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        return [{"latency_ms": 3.0 - len(c.architecture.stages[0].blocks)} for c in candidates]

    box = Box.of_space(space, [Objective("accuracy"), Objective("latency_ms")], costs)
    assert box.best.tolist() == [-1, 1] and box.worst.tolist() == [0, 2]
    slow, fast = np.array([[-0.5, 1.9]]), np.array([[-0.5, 1.1]])
    assert box.volume(slow) == pytest.approx(0.05) and box.volume(fast) == pytest.approx(0.45)
