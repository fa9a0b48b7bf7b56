"""The numerical parts against independent implementations and laws."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from vitpareto.cost_models.foreign import drift
from vitpareto.cost_models.foreign.transfer import farthest, transfer
from vitpareto.cost_models.predict import conformal
from vitpareto.cost_models.predict.correction import COPIES, Sums, fit_correction, share_missed
from vitpareto.cost_models.predict.error_figures import accuracy, mape, spearman, within
from vitpareto.cost_models.predict.memory import fit_memory
from vitpareto.cost_models.predict.prediction import Prediction
from vitpareto.cost_models.predict.regressor import Regressor, nnls
from vitpareto.cost_models.standalone.timing import common_factors
from vitpareto.spaces.errors import CostError


@pytest.mark.parametrize("seed", range(8))
def test_nnls_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((40, 7)), rng.standard_normal(40)
    assert nnls(a, b) == pytest.approx(scipy.optimize.nnls(a, b)[0], abs=1e-5)


def test_spearman_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 50).astype(float), rng.random(50)
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b)[0])
    assert mape(np.array([2.0, 4.0]), np.array([1.0, 5.0])) == pytest.approx(37.5)
    assert within(np.array([1.0, 1.0]), np.array([1.04, 1.2]), 0.05) == 50


@pytest.mark.parametrize("times", [1, 2])
def test_one_network_has_no_rank(times: int) -> None:
    """However often it was timed; there is no NaN, which JSON does not have."""
    same, actual = np.ones(times), np.linspace(1.0, 1.1, times)
    found = accuracy(actual, Prediction(same, 0.9 * same, 1.2 * same, same, same, same > 0))
    assert found["coverage_of_90"] == 100 and "spearman" not in found
    assert np.isfinite(list(found.values())).all()


def samples(count: int, seed: int):
    rng = np.random.default_rng(seed)
    rows, width = 2 ** rng.uniform(4, 8, count), 2 ** rng.uniform(5, 8, count)
    macs = rows * width**2 / 1e6
    ms = (0.01 + 0.02 * macs + 0.3 * rows * width / 1e6) * (1 + 0.1 * np.sin(np.log2(rows)))
    terms = [
        {"calls": 1.0, "macs": m, "elements": r * w / 1e6}
        for m, r, w in zip(macs, rows, width, strict=True)
    ]
    numbers = [{"rows": np.log2(r), "width": np.log2(w)} for r, w in zip(rows, width, strict=True)]
    return terms, numbers, ms


def test_a_regressor_learns_what_the_terms_miss() -> None:
    model = Regressor.fit(*samples(80, 0))
    terms, numbers, ms = samples(200, 1)
    guess = model.predict(terms, numbers)
    base = nnls(np.array([list(t.values()) for t in terms]) / ms[:, None], np.ones(200))
    alone = np.array([list(t.values()) for t in terms]) @ base
    assert mape(ms, guess.ms) < 0.5 * mape(ms, alone)
    again = Regressor.from_dict(model.to_dict()).predict(terms, numbers)
    assert again.ms == pytest.approx(guess.ms, rel=1e-5)
    assert again.sd == pytest.approx(guess.sd, abs=1e-4)


def test_far_away_it_is_unsure_and_sane() -> None:
    terms, numbers, ms = samples(80, 0)
    model = Regressor.fit(terms, numbers, ms)
    far = {"calls": 1.0, "macs": 1000.0, "elements": 1.0}, {"rows": 14.0, "width": 9.0}
    guess = model.predict([far[0]], [far[1]])
    near = model.predict(terms, numbers)
    assert not guess.inside[0] and near.inside.all()
    assert guess.sd[0] > 3 * near.sd.max()
    assert 10 < guess.ms[0] < 40
    strange = model.predict([terms[0]], [numbers[0] | {"new": 1.0}])
    assert not strange.inside[0]


def test_its_spread_tells_its_error() -> None:
    model = Regressor.fit(*samples(25, 3))
    terms, numbers, ms = samples(400, 4)
    guess = model.predict(terms, numbers)
    errors = np.abs(np.log(ms / guess.ms))
    sure = guess.sd < np.median(guess.sd)
    assert errors[sure].mean() < errors[~sure].mean()


def known_sums(count: int, seed: int) -> tuple[Sums, np.ndarray]:
    rng = np.random.default_rng(seed)
    by_kind, calls = rng.uniform(0.5, 2, (count, 3)), rng.integers(10, 30, count).astype(float)
    loaded = rng.uniform(0.02, 0.3, (count, 20))
    total = by_kind.sum(1) + 0.05
    sums = Sums(["a", "b", "c"], by_kind, total, calls, loaded)
    weight = loaded.sum(1)
    apart = (loaded * share_missed(COPIES * loaded, 2.0)).sum(1)
    misses = weight * share_missed(weight, 2.0) - apart
    actual = 1.04 * total + 0.03 * by_kind[:, 1] + 0.02 + 0.03 * misses
    return sums, actual


def test_a_correction_is_found() -> None:
    sums, actual = known_sums(40, 0)
    correction, left_out = fit_correction(sums, actual)
    assert mape(actual, left_out) < 0.5
    assert correction.factors[1] > correction.factors[0]
    assert correction.per_miss_mb >= 0
    plain = mape(actual, sums.total)
    assert plain > 4


@pytest.mark.parametrize("seed", range(6))
def test_a_few_strange_networks_give_no_negative_times(seed: int) -> None:
    sums, _ = known_sums(3, seed)
    rng = np.random.default_rng(seed)
    correction, _ = fit_correction(sums, sums.total * rng.uniform(0.02, 0.6, 3))
    ms, kind = np.geomspace(1e-4, 10, 40), np.arange(40) % 4 - 1
    for loaded in (0.0, 0.3, 30.0):
        found = correction.unit_ms(ms, kind, np.full(40, loaded))
        assert (found > 0).all() and (found >= 0.0999 * ms).all()


def test_memory_is_learned_from_one_process_or_many() -> None:
    rng = np.random.default_rng(0)
    loaded, live = rng.uniform(1, 60, 60), rng.uniform(0.2, 6, 60)
    stored, blocks = loaded * rng.choice([0.25, 1.0], 60), rng.integers(5, 40, 60)
    growth = 12 + 1.6 * loaded + 1.1 * (loaded - stored) + 1.6 * live + 0.1 * blocks
    growth *= rng.uniform(0.98, 1.02, 60)
    for count, tolerance in ((1, 0.3), (2, 0.3), (4, 0.15), (30, 0.03)):
        known, rest = np.arange(count), np.arange(30, 60)
        design = loaded, stored, live, blocks
        model = fit_memory(*(column[known] for column in design), growth[known])
        errors = np.abs(model.predict(*(column[rest] for column in design)) / growth[rest] - 1)
        assert np.median(errors) < tolerance
        assert model.base_mb > 2  # an empty model is not free


def test_left_out_means_left_out() -> None:
    sums, actual = known_sums(30, 1)
    honest = actual.copy()
    honest[0] *= 2  # one network was measured wrongly: its own prediction must not follow it
    _, left_out = fit_correction(sums, honest)
    assert left_out[0] < 1.4 * actual[0]


def test_intervals_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        scores = np.abs(rng.standard_normal(60))
        width = conformal.quantile(scores[:40], 0.9)
        covered.append(np.mean(scores[40:] <= width))
    assert 0.88 < np.mean(covered) < 0.94
    assert conformal.quantile(np.zeros(0), 0.9) == 0


def test_common_factors_are_divided_out() -> None:
    rng = np.random.default_rng(0)
    speed = np.exp(0.2 * rng.standard_normal(15))
    level = rng.uniform(0.1, 5, 30)
    noise = np.exp(0.01 * rng.standard_normal((15, 30)))
    found = common_factors(speed[:, None] * level * noise)
    assert found / found[0] == pytest.approx(speed / speed[0], rel=0.02)


def test_steps_are_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = 0.03 * rng.standard_normal(1000)
    assert drift.segments(noise) == [0]
    stepped = noise + np.repeat([0.0, 0.2, 0.0], [300, 150, 550])
    found = drift.segments(stepped)
    assert len(found) == 3 and abs(found[1] - 300) < 8 and abs(found[2] - 450) < 8
    speed = drift.levels(stepped)
    assert drift.size(speed) == pytest.approx(np.exp(0.2) - 1, abs=0.02)


def test_transfer_of_a_mixture() -> None:
    rng = np.random.default_rng(0)
    sources = np.exp(rng.standard_normal((4, 300)) * 0.3 + rng.standard_normal(300))
    target = np.exp(0.6 * np.log(sources[0]) + 0.4 * np.log(sources[2]) + 1.5)
    known = rng.permutation(300)[:12]
    found = transfer(sources, known, target[known])
    assert mape(target, found) < 3
    assert mape(target, sources[0] * np.exp(1.5)) > 10
    with pytest.raises(CostError, match="transfer needs"):
        transfer(np.zeros((0, 5)), [0], np.ones(1))


def test_farthest_points_are_spread() -> None:
    rng = np.random.default_rng(1)
    sources = np.exp(rng.standard_normal((3, 200)))
    chosen = farthest(sources, 10)
    assert len(set(chosen)) == 10
    x = np.log(sources).T

    def nearest(at) -> float:
        d = np.linalg.norm(x[at][:, None] - x[at], axis=-1)
        return float(np.where(d > 0, d, np.inf).min())

    assert nearest(chosen) > nearest(list(range(10)))
