"""Ranking: parity with scipy, and what every figure must do whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import Ridge

from vitpareto.search.experiments.rank_statistics import (
    advantage,
    bootstrap,
    correlation,
    kendall_tau,
    noise_ceiling,
    ranks,
    ridge,
    seed_noise,
    sign_agreement,
    spearman,
    top_k_regret,
    within_terciles,
)

pairs = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(-5, 5)).map(lambda p: (float(p[0]), float(p[1]))),
    min_size=3,
    max_size=40,
).map(lambda rows: np.array(rows).T)


@given(pairs)
def test_scipy_agrees_with_ties_and_all(xy: np.ndarray) -> None:
    x, y = xy
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(kendall_tau(x, y)) and np.isnan(spearman(x, y))
        return
    assert kendall_tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert ranks(x).tolist() == (stats.rankdata(x) - 1).tolist()


@given(pairs)
def test_only_order_counts(xy: np.ndarray) -> None:
    x, y = xy
    for figure in (kendall_tau, spearman):
        assert np.isnan(figure(x, y)) or figure(np.exp(x), 3 * y - 7) == pytest.approx(figure(x, y))
        assert np.isnan(figure(x, y)) or figure(-x, y) == pytest.approx(-figure(x, y))


@given(pairs, st.integers(1, 50))
def test_regret_of_the_truth_is_zero_and_of_anything_is_within_the_range(xy, k: int) -> None:
    x, y = xy
    assert top_k_regret(y, y, k) == 0
    assert 0 <= top_k_regret(x, y, k) <= np.ptp(y)
    assert top_k_regret(x, y, len(x)) == 0
    assert top_k_regret(x, y, k + 1) <= top_k_regret(x, y, k)


def test_regret_by_hand() -> None:
    proxy, truth = np.array([3.0, 2, 1]), np.array([0.7, 0.8, 0.9])
    assert [round(top_k_regret(proxy, truth, k), 3) for k in (1, 2, 3)] == [0.2, 0.1, 0.0]


def test_terciles_see_through_size() -> None:
    """Accuracy that is size plus chance: size orders all, and hardly inside a third."""
    rng = np.random.default_rng(0)
    size = np.arange(300.0)
    truth = size + rng.normal(0, 60, 300)
    assert kendall_tau(size, truth) > 0.55
    assert within_terciles(size, truth, size) < 0.5
    assert within_terciles(truth, truth, size) == 1


@given(pairs)
def test_sign_agreement_bounds(xy: np.ndarray) -> None:
    x, y = xy
    agree, counted = sign_agreement(x, y)
    assert sign_agreement(y, y) == (counted, counted)
    assert sign_agreement(-y, y) == (0, counted)
    assert agree + sign_agreement(-x, y)[0] == counted
    assert sign_agreement(np.zeros_like(y), y)[0] == counted / 2
    assert sign_agreement(x, y, noise=10)[1] == 0


def test_interval_of_a_mean_is_that_of_theory() -> None:
    x = np.random.default_rng(1).normal(size=200)
    found = bootstrap(lambda i: float(x[i].mean()), 200)
    half = 1.96 * x.std() / 200**0.5
    assert found.value == x.mean()
    assert found.low == pytest.approx(x.mean() - half, abs=0.02)
    assert found.high == pytest.approx(x.mean() + half, abs=0.02)


def test_intervals_cover_the_true_tau() -> None:
    """Normal pairs of correlation r have tau 2 / pi asin(r) (Greiner's relation)."""
    rng = np.random.default_rng(2)
    r, hits, trials = 0.8, 0, 60
    true = 2 / np.pi * np.arcsin(r)
    for trial in range(trials):
        x, noise = rng.normal(size=(2, 40))
        y = r * x + (1 - r * r) ** 0.5 * noise
        found = bootstrap(lambda i, x=x, y=y: kendall_tau(x[i], y[i]), 40, trial, resamples=300)
        hits += found.low <= true <= found.high
    assert hits >= 0.85 * trials


def test_advantage_is_paired() -> None:
    """What two proxies have in common must not widen the interval of their difference."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=40)
    baseline = truth + rng.normal(0, 0.8, 40)
    better = truth + 0.7 * (baseline - truth)
    found = advantage(better, baseline, truth)
    alone = [correlation(kendall_tau, proxy, truth) for proxy in (better, baseline)]
    assert found.value == pytest.approx(alone[0].value - alone[1].value)
    assert found.high - found.low < min(e.high - e.low for e in alone)
    nothing = advantage(baseline, baseline, truth)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_noise_of_seeds_is_found_again() -> None:
    rng = np.random.default_rng(4)
    means = rng.uniform(0.5, 0.95, 300)
    runs = [rng.normal(m, 0.2 * (m * (1 - m)) ** 0.5, 3).tolist() for m in means]
    assert seed_noise(runs) == pytest.approx(0.04, rel=0.15)
    assert np.isnan(seed_noise([[0.5], [0.6]]))


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.15])
def test_ceiling_is_what_a_perfect_proxy_reaches(noise: float) -> None:
    rng = np.random.default_rng(5)
    true = rng.uniform(0.6, 0.95, 60)
    sd = noise * (true * (1 - true)) ** 0.5
    reached, ceilings = [], []
    for _ in range(8):
        runs = [
            rng.normal(m, s, 3 if i % 3 == 0 else 1).clip(0, 1)
            for i, (m, s) in enumerate(zip(true, sd, strict=True))
        ]
        reached.append(kendall_tau(true, np.array([run.mean() for run in runs])))
        ceilings.append(noise_ceiling([run.tolist() for run in runs], 10_000).value)
    assert np.mean(ceilings) == pytest.approx(np.mean(reached), abs=0.03)


def test_ceiling_needs_repeated_seeds_and_is_1_without_noise() -> None:
    assert np.isnan(noise_ceiling([[0.5], [0.6], [0.7]], 100).value)
    assert noise_ceiling([[0.5, 0.5], [0.6], [0.7]], 1000).value == 1


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_ridge_predicts_what_it_has_not_seen_as_scikit_learn_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 6))
    truth = features @ rng.normal(size=6) + 0.1 * rng.normal(size=40)
    found = ridge(features, truth, seed, halvings=1)
    order = np.random.default_rng(seed).permutation(40)
    scaled = (features - features.mean(0)) / features.std(0)
    for out, fit in ((order[:20], order[20:]), (order[20:], order[:20])):
        other = Ridge(alpha=1.0).fit(scaled[fit], truth[fit]).predict(scaled[out])
        assert np.allclose(found[out], other)


def test_ridge_learns_nothing_from_chance() -> None:
    rng = np.random.default_rng(6)
    taus = [kendall_tau(ridge(rng.normal(size=(40, 6)), y), y) for y in rng.normal(size=(30, 40))]
    assert np.mean(taus) < 0.1
