"""Forecasts: what some short trainings say is found again in candidates that were not trained."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vitpareto.search.config import FEWEST_EXAMPLES, TrainConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.experiments.rank_statistics import kendall_tau
from vitpareto.search.experiments.stratified_pairs import stratified_pairs
from vitpareto.search.scoring.candidate_features import Traits
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.forecast import Forecast, draw_examples, train_examples
from vitpareto.search.scoring.scratch import ShortTraining
from vitpareto.search.training.accuracy import accuracy_and_score, score
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import FailedError


@pytest.fixture(scope="module")
def digits() -> SearchSpace:
    return SearchSpace.from_yaml("digits")


def truth(candidate: Candidate) -> float:
    """Width helps, and so do linear mixers, wherever they are."""
    blocks = list(candidate.architecture.blocks())
    linear = sum(block.mixer == "linear" for block in blocks) / len(blocks)
    return 0.3 * math.log(candidate.architecture.stages[0].width) + linear


def trained(candidates: list[Candidate], seed: int) -> list[Evaluation]:
    rng = np.random.default_rng(seed)
    found = [truth(c) + 0.1 * rng.normal() for c in candidates]
    return [
        Evaluation(c, "complete", {"score": v, "accuracy": 1 / (1 + math.exp(-v))})
        for c, v in zip(candidates, found, strict=True)
    ]


def test_what_helps_is_learned_from_examples(digits: SearchSpace) -> None:
    forecast = Forecast.fit(trained(draw_examples(digits, 60, 0), 1))
    fresh = digits.sample(60, 99)
    found = [forecast(candidate) for candidate in fresh]
    true = np.array([truth(candidate) for candidate in fresh])
    assert kendall_tau(np.array([f["accuracy"] for f in found]), true) > 0.8
    for metrics in found:
        assert 0 < metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"] < 1
    assert pickle.loads(pickle.dumps(forecast))(fresh[0]) == found[0]


def test_each_accuracy_is_forecast_from_its_own_score(digits: SearchSpace) -> None:
    """Balanced accuracies in the opposite order; 0.2 logged none, and then none is forecast."""
    examples = trained(draw_examples(digits, 60, 0), 1)
    plain = Forecast.fit(examples)
    both = Forecast.fit(
        [
            Evaluation(
                e.candidate,
                "complete",
                {
                    **e.metrics,
                    "balanced_score": -e.metrics["score"],
                    "balanced_accuracy": 1 - e.metrics["accuracy"],
                },
            )
            for e in examples
        ]
    )
    for candidate in digits.sample(10, 99):
        found = both(candidate)
        assert found["balanced_accuracy"] == pytest.approx(1 - found["accuracy"], abs=1e-3)
        low, high = found["balanced_accuracy_low"], found["balanced_accuracy_high"]
        assert 0 < low < found["balanced_accuracy"] < high < 1
        assert plain(candidate) == {n: v for n, v in found.items() if "balanced" not in n}


def test_intervals_are_those_of_single_trainings(digits: SearchSpace) -> None:
    forecast = Forecast.fit(trained(draw_examples(digits, 60, 0), 1))
    inside = [
        found["accuracy_low"] <= e.metrics["accuracy"] <= found["accuracy_high"]
        for e in trained(digits.sample(100, 98), 3)
        for found in [forecast(e.candidate)]
    ]
    assert np.mean(inside) > 0.85


def test_the_scale_is_that_of_the_examples_accuracies(digits: SearchSpace) -> None:
    """Here the logit of the accuracy is the score, so that its truth is predicted."""
    forecast = Forecast.fit(trained(draw_examples(digits, 60, 1), 2))
    errors = [
        math.log(share / (1 - share)) - truth(candidate)
        for candidate in digits.sample(60, 98)
        if (share := forecast(candidate)["accuracy"])
    ]
    assert abs(np.mean(errors)) < 0.05 and np.std(errors) < 0.15


def test_failed_trainings_are_left_out_and_too_few_are_refused(digits: SearchSpace) -> None:
    examples = trained(draw_examples(digits, 12, 0), 0)
    failed = [Evaluation(e.candidate, "failed", reason="no") for e in examples[:4]]
    assert 0 < Forecast.fit([*failed, *examples[4:]])(digits.largest())["accuracy"] < 1
    with pytest.raises(FailedError, match="7 short trainings succeeded, 8 are needed"):
        Forecast.fit([*failed, *examples[5:]])


def test_examples_are_different_and_the_same_again(digits: SearchSpace) -> None:
    found = draw_examples(digits, 30, 5)
    assert len({candidate.key for candidate in found}) == 30
    assert found == draw_examples(digits, 30, 5) != draw_examples(digits, 30, 6)
    few = SearchSpace.from_text(
        "patch_size: [8, 16]\nstages: [{depth: 1, width: 16, num_heads: 2}]"
    )
    assert len(draw_examples(few, 10, 0)) == few.size == 2


@pytest.mark.parametrize("preset", ["digits", "compression", "efficientformer_v2"])
def test_candidates_that_differ_along_an_axis_have_other_traits(preset: str) -> None:
    """Policies of every kind and part, and downsampling, too; not by their size and work alone."""
    space, n = SearchSpace.from_yaml(preset), 22
    pairs = stratified_pairs(space, n, 0)
    traits = Traits([c for pair in pairs for c in (pair.first, pair.second)])
    table = traits([c for pair in pairs for c in (pair.first, pair.second)])
    assert table.shape == (2 * n, len(traits.names)) and np.isfinite(table).all()
    for pair, (first, second) in zip(pairs, table.reshape(n, 2, -1), strict=True):
        if pair.axis != "token_keep_at":  # which block drops tokens shows in MACs alone
            changed = {n for n, a, b in zip(traits.names, first, second, strict=True) if a != b}
            assert changed - {"work.macs", "size.params"}, pair.axis


def test_shares_of_mixers_add_up_to_1(digits: SearchSpace) -> None:
    traits = Traits(digits.sample(40, 0))
    mixers = [i for i, name in enumerate(traits.names) if name.startswith("mixer.0.mixer=")]
    assert len(mixers) > 1
    assert np.allclose(traits(digits.sample(40, 0))[:, mixers].sum(1), 1)


def test_a_space_of_compression_alone_is_forecast() -> None:
    """Of sparsity, which changes neither size nor work, as much as accuracy depends on it."""
    space = SearchSpace.from_text(
        "name: sparse\nstages: [{depth: 2, width: 32, num_heads: 2, weight_bits: 8, "
        "blocks: {mixer_sparsity: [0.0, 0.5, 0.9], mlp_sparsity: [0.0, 0.5, 0.9]}}]"
    )

    def kept(candidate: Candidate) -> float:
        (stage,) = candidate.compression.stages
        return 1 - sum(policy.sparsity for policy in (*stage.mixer, *stage.mlp)) / 4

    trained = [
        Evaluation(c, "complete", {"score": kept(c), "accuracy": kept(c)})
        for c in draw_examples(space, 20, 0)
    ]
    forecast = Forecast.fit(trained)
    found = [forecast(candidate)["accuracy"] for candidate in space.sample(20, 1)]
    true = [kept(candidate) for candidate in space.sample(20, 1)]
    assert np.corrcoef(found, true)[0, 1] > 0.95


def test_where_nothing_tells_candidates_apart_all_are_forecast_alike() -> None:
    """Exits keep the accuracy of the whole network, and may be all that a space chooses."""
    space = SearchSpace.from_text(
        "stages: [{depth: 12, width: 32, num_heads: 2, exits: [none, 2, 3, 4, 5, 6, 7, 8, 9]}]"
    )
    trained = [
        Evaluation(c, "complete", {"score": 1.0 + i, "accuracy": 0.7 + 0.01 * i})
        for i, c in enumerate(draw_examples(space, 9, 0))
    ]
    found = [Forecast.fit(trained)(e.candidate) for e in trained]
    assert all(metrics == found[0] for metrics in found)
    low, middle, high = (found[0][f"accuracy{end}"] for end in ("_low", "", "_high"))
    assert 0.65 < low < 0.7 and 0.735 < middle < 0.745 and 0.78 < high < 0.82


def test_short_trainings_are_kept(space, data: Data, lessons, tmp_path: Path) -> None:
    candidates = draw_examples(space, 8, 0)
    training = ShortTraining(lessons, data.split("search"), TrainConfig(batch_size=64), 3)
    log = EvaluationLog(tmp_path / "short.jsonl")
    first = train_examples(candidates[:5], training, LocalExecutor(), log, 1)
    lines = (tmp_path / "short.jsonl").read_text()
    log = EvaluationLog(tmp_path / "short.jsonl")
    found = train_examples(candidates, training, LocalExecutor(), log, 2)
    assert (tmp_path / "short.jsonl").read_text().startswith(lines)
    assert [e.key for e in found] == [c.key for c in candidates]
    assert [e.metrics for e in found[:5]] == [e.metrics for e in first]


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_sample_is_smaller_where_its_time_is_over(
    space, data: Data, lessons, tmp_path: Path, ahead: int
) -> None:
    """What is under way ends, and enough of it must have succeeded."""
    training = ShortTraining(lessons, data.split("search"), TrainConfig(batch_size=64), 1)
    candidates, asked = draw_examples(space, 20, 0), list[int]()

    def is_over(ended: int) -> bool:
        asked.append(ended)
        return ended >= 9

    log = EvaluationLog(tmp_path / "short.jsonl")
    found = train_examples(candidates, training, LocalExecutor(), log, ahead, is_over=is_over)
    assert [e.key for e in found] == [c.key for c in candidates[: 9 + ahead - 1]]
    assert min(asked) == FEWEST_EXAMPLES - ahead + 1
    again = train_examples(
        candidates, training, LocalExecutor(), log, ahead, is_over=lambda ended: True
    )
    assert len(again) == FEWEST_EXAMPLES
    unlucky = EvaluationLog(tmp_path / "unlucky.jsonl")
    unlucky.append(Evaluation(candidates[0], "failed"))
    more = train_examples(
        candidates, training, LocalExecutor(), unlucky, ahead, is_over=lambda ended: True
    )
    assert sum(e.status == "complete" for e in more) == FEWEST_EXAMPLES


def test_the_score_is_minus_the_logarithm_of_the_loss() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    losses = [math.log(1 + math.exp(-2)), math.log(1 + math.e)]
    assert score(logits, labels) == pytest.approx(-math.log(sum(losses) / 2))
    assert accuracy_and_score(logits, labels)["accuracy"] == 0.5
    assert score(1e3 * torch.eye(2), torch.tensor([0, 1])) == pytest.approx(-math.log(1e-3))
