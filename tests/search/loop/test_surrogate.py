import math
import random

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    DotProduct,
    Matern,
    WhiteKernel,
)

from vitpareto.search.loop.baselines import surrogate
from vitpareto.search.loop.choice_encoder import Encoder
from vitpareto.search.loop.genetic import Individual, evolve
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.surrogate import Surrogate, choose
from vitpareto.search.loop.task import Proposer, Task, Told
from vitpareto.search.pareto.hypervolume import Archive, Box
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.pareto.sorting import crowding, survival
from vitpareto.search.scoring.gaussian_process import GaussianProcess

from ..table import OBJECTIVES, Table, losses, recorded


def drive(proposer: Proposer, table: Table, n: int, history: list[Told] | None = None) -> list[str]:
    """Ask and tell up to `n` times; the keys that were proposed."""
    history = [] if history is None else history
    keys: list[str] = []
    for _ in range(n):
        assignment = proposer.propose(lambda: history)
        if assignment is None:
            break
        candidate = table.space.candidate(assignment)
        history.append(Told(assignment, table.score(candidate)))
        keys.append(candidate.key)
    return keys


def needed(table: Table, name: str, seeds: int, most: float = math.inf) -> int:
    """Candidates scored until 98% of the true hypervolume is reached, with each of some seeds.

    It is given up after so many in all, of which more need not be known.
    """
    scored = 0
    for seed in range(seeds):
        scored += scored_until(table, name, seed, most - scored)
    return scored


def scored_until(table: Table, name: str, seed: int, most: float) -> int:
    front = np.array([losses(row.metrics) for row in table.front])
    box = Box.of_points(front)
    archive, scored = Archive(box), set[str]()
    sampler = Sampler(name, Task(table.space, OBJECTIVES, table.costs, seed, 100))
    while archive.volume < 0.98 * box.volume(front) and len(scored) < most:
        proposal = sampler.ask()
        assert proposal is not None
        key = table.space.candidate(proposal.assignment).key
        sampler.tell(proposal, key, table.rows[key].metrics, {})
        archive.add(losses(table.rows[key].metrics))
        scored.add(key)
    return len(scored)


def test_it_needs_a_small_part_of_what_others_need(table: Table) -> None:
    surrogate = needed(table, "surrogate", 2)
    assert needed(table, "random", 2, 5 * surrogate) >= 5 * surrogate


@pytest.mark.slow
def test_so_it_does_with_scores_of_a_real_supernet() -> None:
    table = recorded()
    surrogate = needed(table, "surrogate", 3)
    assert needed(table, "nsga2", 3, 2 * surrogate) >= 2 * surrogate


def test_it_begins_with_what_rounding_alone_gives(table: Table) -> None:
    task = Task(table.space, OBJECTIVES, table.costs, 0, 100)
    begun = drive(surrogate(task), table, 10)
    largest = table.space.assignment(table.space.largest())
    bits = {c.name: 8 for c in table.space.parameters if c.name.endswith("weight_bits")}
    assert bits
    for size in (4, 8):
        rounded = table.space.candidate({**largest, **bits, "patch_size": size})
        assert rounded.key in begun


def test_the_same_seed_proposes_the_same_and_never_twice(table: Table) -> None:
    def proposed(seed: int) -> list[str]:
        return drive(Surrogate(table.space, OBJECTIVES, table.costs, seed), table, 24)

    first = proposed(0)
    assert first == proposed(0) != proposed(1)
    assert len(set(first)) == 24
    ends = {table.space.smallest().key, table.space.largest().key}
    assert ends <= set(first[:10])


def test_limits_are_kept_once_they_are_known(table: Table) -> None:
    limit = sorted(row.metrics["latency_ms"] for row in table.rows.values())[300]
    within = [row.metrics for row in table.rows.values() if row.metrics["latency_ms"] <= limit]
    bar = sorted(metrics["accuracy"] for metrics in within)[200]
    objectives = [Objective("accuracy", bar), Objective("latency_ms", limit)]
    history: list[Told] = []
    keys = drive(Surrogate(table.space, objectives, table.costs, 0), table, 34, history)
    late = [table.rows[key].metrics for key in keys[10:]]
    assert all(m["latency_ms"] <= limit for m in late)
    by_chance = np.mean([metrics["accuracy"] >= bar for metrics in within])
    assert np.mean([m["accuracy"] >= bar for m in late]) > 2 * by_chance


def test_a_small_space_is_exhausted(table: Table) -> None:
    names = ("patch_size", "stages.0.width")
    surrogate = Surrogate(
        table.space, OBJECTIVES, table.costs, 0, free=lambda choice: choice.name in names
    )
    keys = drive(surrogate, table, 50)
    assert len(keys) == len(set(keys)) == 6


def test_what_failed_is_not_proposed_again(table: Table) -> None:
    surrogate = Surrogate(table.space, OBJECTIVES, table.costs, 0)
    history = [Told(table.space.assignment(row.candidate), {}) for row in table.front]
    failed = {row.candidate.key for row in table.front}
    assert not failed & set(drive(surrogate, table, 30, history)[10:])


def test_equal_scores_are_no_problem() -> None:
    x = np.random.default_rng(0).standard_normal((9, 3))
    mean, spread = GaussianProcess.fit(x, np.full(9, 0.5)).predict(x)
    assert mean == pytest.approx(0.5)
    assert (spread < 1e-3).all()


def test_gaussian_process_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((60, 5)), rng.standard_normal((30, 5))
    y = np.sin(x[:, 0]) + 0.3 * x[:, 1] + 0.05 * rng.standard_normal(60)
    ours = GaussianProcess.fit(np.column_stack([x, np.ones(60)]), y)
    mean, spread = ours.predict(np.column_stack([new, np.ones(30)]))
    assert np.abs(ours.predict(np.column_stack([x, np.ones(60)]))[0] - y).mean() < 0.1

    length, linear, amplitude = ours.kernel
    kernel = ConstantKernel(amplitude, "fixed") * (
        Matern(length, "fixed", nu=2.5)
        + ConstantKernel(linear, "fixed") * DotProduct(0.0, "fixed")
        + WhiteKernel(ours.noise, "fixed")
    )
    theirs = GaussianProcessRegressor(kernel, alpha=0.0, normalize_y=True)
    scaled = (x - x.mean(0)) / x.std(0)
    theirs.fit(scaled, y)
    other, both = theirs.predict((new - x.mean(0)) / x.std(0), return_std=True)
    assert mean == pytest.approx(other, abs=1e-6)
    without_noise = np.sqrt(both**2 - amplitude * ours.noise * y.var())
    assert spread == pytest.approx(without_noise, abs=1e-6)


def test_encoding(table: Table) -> None:
    encode = Encoder(table.space.parameters)
    rows = list(table.rows.values())
    vectors = encode([table.space.assignment(row.candidate) for row in rows])
    assert len(np.unique(vectors, axis=0)) == len(rows)  # no two candidates look the same
    largest, nothing = encode([{"patch_size": 8, "stages.0.depth": 2}, {}])
    assert sorted(largest[:2].tolist()) == [-1, 1]
    assert not nothing.any()


def test_inner_search_finds_the_front(table: Table) -> None:
    start = [Individual.of(table.space, table.space.assignment(c)) for c in table.space.sample(40)]

    def judge(individuals):
        found = [losses(table.rows[i.candidate.key].metrics) for i in individuals]
        return np.array(found), np.zeros(len(found))

    free = {choice.name for choice in table.space.parameters}
    met = evolve(table.space, start, judge, random.Random(0), 60, 20, free)
    keys = [i.candidate.key for i in met]
    assert len(set(keys)) == len(keys) <= 40 + 20 * 60
    front = np.array([losses(row.metrics) for row in table.front])
    box = Box.of_points(front)
    assert box.volume(judge(met)[0]) > 0.97 * box.volume(front)
    again = evolve(table.space, start, judge, random.Random(0), 60, 20, free)
    assert [i.candidate.key for i in again] == keys


def test_survival_puts_limits_first_then_fronts_then_the_lonely() -> None:
    values = np.array([[0, 4.0], [1, 1], [1.1, 0.9], [4, 0], [3, 3], [0, 0], [0, 0.0]])
    excess = np.array([0, 0, 0, 0, 0, 0.2, 0.1])
    order = survival(values, excess).tolist()
    assert set(order[:2]) == {0, 3}
    assert set(order[2:4]) == {1, 2}
    assert order[4:] == [4, 6, 5]
    assert np.isinf(crowding(values[:4])[[0, 3]]).all()


def test_choosing_adds_the_most_hypervolume_each_time() -> None:
    rng = np.random.default_rng(0)
    values, front = rng.random((40, 3)), rng.random((5, 3)) + 0.4
    found = choose(values, front, 6)
    together = np.vstack([front, values])
    box = Box.of_points(together[[not _beaten(p, together) for p in together]])
    known = front
    for i in found:
        gains = [box.volume(np.vstack([known, v])) for v in values]
        assert gains[i] == pytest.approx(max(gains))
        known = np.vstack([known, values[i]])
    assert choose(values, np.empty((0, 3)), 50) and len(choose(values, front, 50)) == 40


def _beaten(point, points) -> bool:
    return bool(((points <= point).all(1) & (points < point).any(1)).any())
