"""Forecasts beside a start: what finishing some candidates tells about the others."""

import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import workload
from vitpareto.search.config import FinishConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.experiments.rank_statistics import kendall_tau
from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.start import Start
from vitpareto.search.scoring.assembled import AssembledScorer
from vitpareto.search.scoring.cut_forecast import (
    CutForecast,
    Example,
    on_other_split,
    shift_between_splits,
)
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.finishing import Finishing
from vitpareto.search.scoring.forecast import expit, logit
from vitpareto.search.scoring.gaussian_process import GaussianProcess
from vitpareto.search.scoring.strata import spread_examples
from vitpareto.search.training import finetune
from vitpareto.search.training.accuracy import SCORES
from vitpareto.search.training.finetune import FineTuning
from vitpareto.search.training.supernet import fresh
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import RunError


class Judge:
    """Says how far candidates are without a look at their networks."""

    def __call__(self, candidate: Candidate) -> Mapping[str, float]:
        number = int(candidate.key[:6], 16) / 16**6
        return {"divergence": 0.02 + number**2}


def truth(candidate: Candidate) -> float:
    """The nearer, the larger, and the more tokens, the better."""
    far, tokens = Judge()(candidate)["divergence"], candidate.architecture.grid**2
    return expit(0.2 * math.log(workload(candidate).macs) + 0.15 * math.log(tokens) - 2 * far - 2)


def finished(candidates: list[Candidate], noise: float, seed: int = 0) -> list[Evaluation]:
    rng = np.random.default_rng(seed)
    found: list[Evaluation] = []
    for candidate in candidates:
        value = expit(logit(truth(candidate)) + noise * rng.normal())
        shares = {"accuracy": value, "balanced_accuracy": value}
        found.append(Evaluation(candidate, "complete", {**shares, **Judge()(candidate)}))
    return found


@pytest.fixture(scope="module")
def digits() -> SearchSpace:
    return SearchSpace.from_yaml("digits")


def test_few_examples_tell_what_the_others_become(digits: SearchSpace) -> None:
    judge: AssembledScorer = Judge()  # type: ignore[assignment]
    forecast = CutForecast.fit(finished(spread_examples(digits, 20, 0), 0.03), judge)
    others = digits.sample(60, 99)
    found = [forecast(candidate) for candidate in others]
    true = np.array([truth(candidate) for candidate in others])
    told = np.array([f["accuracy"] for f in found])
    assert kendall_tau(told, true) > 0.9 and np.abs(told - true).mean() < 0.015
    for candidate, metrics in zip(others, found, strict=True):
        assert 0 < metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"] < 1
        assert metrics["divergence"] == Judge()(candidate)["divergence"]


def test_divergence_may_cost_more_where_tokens_are_fewer() -> None:
    """As of tokens that are dropped at random, which training makes up for where many are left."""
    digits = SearchSpace.from_yaml("digits")
    judge: AssembledScorer = Judge()  # type: ignore[assignment]

    def becomes(candidate: Candidate) -> float:
        far, tokens = Judge()(candidate)["divergence"], candidate.architecture.grid**2
        return expit(2 - far * (3 - math.log(tokens / 4)))

    examples = [
        replace(e, metrics=e.metrics | dict.fromkeys(SCORES, becomes(e.candidate)))
        for e in finished(spread_examples(digits, 20, 0), 0.0)
    ]
    forecast, others = CutForecast.fit(examples, judge), digits.sample(60, 99)
    told = np.array([forecast(candidate)["accuracy"] for candidate in others])
    true = np.array([becomes(candidate) for candidate in others])
    assert kendall_tau(told, true) > 0.95 and np.abs(told - true).mean() < 0.005


def test_collapsed_examples_do_not_spoil_the_others(digits: SearchSpace) -> None:
    """At chance, and far away as few bits take them; a broken network is not even a number."""
    judge: AssembledScorer = Judge()  # type: ignore[assignment]
    examples = finished(spread_examples(digits, 20, 0), 0.03)
    chance = dict.fromkeys(("accuracy", "balanced_accuracy"), 0.1)
    for i in (3, 9, 15):
        examples[i] = replace(examples[i], metrics={**chance, "divergence": 2.0 + 0.2 * i})
    forecast = CutForecast.fit(examples, judge)
    others = digits.sample(60, 99)
    told = np.array([forecast(candidate)["accuracy"] for candidate in others])
    assert kendall_tau(told, np.array([truth(candidate) for candidate in others])) > 0.85
    broken = forecast.judged_by(lambda candidate: {"divergence": 1e6})
    assert broken(others[0])["accuracy"] == 0.0


def test_one_number_of_tokens_says_nothing() -> None:
    space = SearchSpace.from_text(
        "input_size: 16\npatch_size: 4\nstages: [{depth: [1, 2, 3], width: [16, 24, 32, 48], "
        "num_heads: 2, mlp_ratio: [1.0, 2.0, 4.0]}]"
    )
    judge: AssembledScorer = Judge()  # type: ignore[assignment]
    forecast = CutForecast.fit(finished(spread_examples(space, 16, 0), 0.0), judge)
    for candidate in space.sample(5, 7):
        assert forecast(candidate)["accuracy"] == pytest.approx(truth(candidate), abs=0.01)


def test_a_harder_split_is_told_by_the_start(digits: SearchSpace) -> None:
    """All logits are lower there by the same, which is that of the start."""
    judge: AssembledScorer = Judge()  # type: ignore[assignment]
    here = {"accuracy": 0.8, "balanced_accuracy": 0.7}
    there = {name: expit(logit(value) - 0.7) for name, value in here.items()}
    examples = finished(spread_examples(digits, 20, 0), 0.03)
    moved = on_other_split(examples, shift_between_splits(examples, here, there), (300, 900))
    assert [e.metrics["divergence"] for e in moved] == [e.metrics["divergence"] for e in examples]
    same, lower = (CutForecast.fit(finished_, judge) for finished_ in (examples, moved))
    for candidate in digits.sample(5, 9):
        one, other = same(candidate), lower(candidate)
        for end in ("_low", "", "_high"):
            found = logit(other[f"accuracy{end}"]) - logit(one[f"accuracy{end}"])
            assert found == pytest.approx(-0.7)


def test_examples_that_are_known_on_both_splits_count_like_the_start(digits: SearchSpace) -> None:
    both = {"accuracy": 0.6, "balanced_accuracy": 0.6}
    harder = {f"elsewhere_{name}": expit(logit(0.6) - 0.4) for name in both}
    known = [Evaluation(c, "complete", both | harder) for c in digits.sample(3, 1)]
    unknown = [
        Evaluation(digits.sample(1, 2)[0], "complete", both),
        Evaluation(digits.sample(1, 3)[0], "failed"),
    ]
    shift = shift_between_splits([*known, *unknown], both, both)  # the start says they are alike
    assert shift == pytest.approx(dict.fromkeys(both, -0.3))


def test_the_images_of_both_splits_judge_an_example(digits: SearchSpace) -> None:
    """By their number; a shift of all logits is taken off before."""
    (candidate,) = digits.sample(1, 1)
    one, other = logit(0.5), logit(0.6)
    here = {"accuracy": 0.5, "balanced_accuracy": 0.5}
    there = {f"elsewhere_{name}": 0.6 for name in here}
    shift = {"accuracy": 0.2, "balanced_accuracy": 0.0}
    example = Evaluation(candidate, "complete", here | there)
    (moved,) = on_other_split([example], shift, (100, 300))
    assert moved.metrics["balanced_accuracy"] == pytest.approx(expit((one + 3 * other) / 4))
    assert moved.metrics["accuracy"] == pytest.approx(expit((one + 0.2 + 3 * other) / 4))


def test_an_example_that_failed_takes_no_part(digits: SearchSpace) -> None:
    judge: AssembledScorer = Judge()  # type: ignore[assignment]
    examples = finished(spread_examples(digits, 12, 0), 0.03)
    broken = Evaluation(digits.sample(1, 9)[0], "failed", reason="RunError: the loss is nan")
    about = {"accuracy": 0.1, "balanced_accuracy": 0.1}, (300, 100)
    some, all_but = (on_other_split(e, *about) for e in ([broken, *examples], examples))
    (candidate,) = digits.sample(1, 4)
    assert CutForecast.fit(some, judge)(candidate) == CutForecast.fit(all_but, judge)(candidate)


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_intervals_hold_single_trainings(digits: SearchSpace, noise: float) -> None:
    judge: AssembledScorer = Judge()  # type: ignore[assignment]
    inside: list[bool] = []
    for seed in range(5):
        examples = finished(spread_examples(digits, 16, seed), noise, seed)
        forecast = CutForecast.fit(examples, judge)
        for e in finished(digits.sample(40, 50 + seed), noise, 50 + seed):
            found = forecast(e.candidate)
            inside.append(found["accuracy_low"] <= e.metrics["accuracy"] <= found["accuracy_high"])
    assert 0.88 < np.mean(inside) <= 1


def test_too_few_examples_are_refused(digits: SearchSpace) -> None:
    judge: AssembledScorer = Judge()  # type: ignore[assignment]
    with pytest.raises(RunError, match="7 short trainings succeeded, 8 are needed"):
        CutForecast.fit(finished(spread_examples(digits, 7, 0), 0), judge)


def test_examples_are_spread_and_so_are_the_first_of_them(digits: SearchSpace) -> None:
    found = spread_examples(digits, 16, 3)
    assert len({c.key for c in found}) == 16 and found[:5] == spread_examples(digits, 5, 3)
    work = np.log([workload(c).macs for c in digits.sample(400, 0)])
    for n in (4, 8, 16):
        inside = np.log([workload(c).macs for c in found[:n]])
        counts = np.histogram(inside, np.quantile(work, [0, 0.25, 0.5, 0.75, 1.0]))[0]
        assert counts.min() >= n // 4 - 1
    few = SearchSpace.from_text(
        "patch_size: [8, 16]\nstages: [{depth: 1, width: 16, num_heads: 2}]"
    )
    assert len(spread_examples(few, 10, 0)) == few.size == 2


def test_errors_about_what_is_left_out_are_those_of_leaving_it_out() -> None:
    """Against the same process without the example, its covariance inverted anew."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(15, 3))
    y = x[:, 0] + np.sin(x[:, 1]) + 0.1 * rng.normal(size=15)
    process = GaussianProcess.fit(x, y)
    found = process.left_out()
    scaled, covariance = (
        (y - y.mean()) / y.std(),
        np.linalg.inv(process._inverse @ process._inverse.T),
    )
    for i in range(15):
        rest = np.arange(15) != i
        pull = covariance[i, rest] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
        spread = covariance[i, i] - pull @ covariance[rest, i]
        assert found[i] == pytest.approx((scaled[i] - pull @ scaled[rest]) / spread**0.5, rel=1e-6)


@pytest.fixture
def finishing(space: SearchSpace, data: Data, lessons, tmp_path: Path) -> Finishing:
    start = Start.of(fresh(space.largest(), 0), data.split("train").images[:32])
    recipe = FinishConfig(epochs=9, batch_size=64, lr=4e-3)
    tuning = FineTuning(lessons, data.split("search"), recipe, 0, length=40)
    begin = partial(assemble, Library(start))
    return Finishing(begin, tuning, data.split("train").images[:32], tmp_path / "half")


def test_finished_candidates_are_better_and_leave_nothing(
    finishing: Finishing, space: SearchSpace, data: Data
) -> None:
    judge = AssembledScorer(finishing.begin.args[0], data.split("search"))  # type: ignore
    example = pickle.loads(pickle.dumps(Example(finishing, judge)))
    candidate = space.sample(1, seed=3)[0]
    found = example(candidate)
    before = judge(candidate)
    assert found["divergence"] == before["divergence"]
    assert found["accuracy"] > before["accuracy"] + 0.1
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert not any((finishing.folder).glob("*.safetensors"))
    assert finishing(candidate) == finishing(candidate) != finishing.with_seed(1)(candidate)


def test_a_killed_finishing_goes_on_where_it_was(
    finishing: Finishing, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = space.sample(1, seed=3)[0]
    finishing = replace(finishing, tuning=replace(finishing.tuning, length=12))
    whole = finishing(candidate)
    monkeypatch.setattr(finetune, "SLICES_S", (0.0,))  # a step each
    steps: list[int] = []
    original = FineTuning.__call__

    def dying(self: FineTuning, candidate: Candidate, state):
        if len(steps) == 5:
            raise KeyboardInterrupt
        steps.append(state.step)
        return original(self, candidate, state)

    monkeypatch.setattr(FineTuning, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        finishing(candidate)
    assert len([*finishing.folder.glob("*.safetensors")]) == 1
    steps.append(-1)  # no longer 5
    assert finishing(candidate) == whole
    assert steps == [0, 1, 2, 3, 4, -1, 5, 6, 7, 8, 9, 10, 11]
