"""Errors of forecasts, against the definition."""

import numpy as np
import pytest

from vitpareto.search.scoring.cut_forecast import CutForecast, known_divergences
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.forecast import expit, logit
from vitpareto.search.scoring.forecast_errors import errors, interval_90, validated_errors
from vitpareto.search.scoring.strata import spread_examples
from vitpareto.search.training.accuracy import Z
from vitpareto.spaces import SearchSpace


def test_off_by_and_inside() -> None:
    told = {"accuracy": 0.8, "accuracy_low": expit(logit(0.8) - Z), "accuracy_high": 0.99}
    low, _ = interval_90(told, "accuracy")
    assert logit(low) == pytest.approx(logit(0.8) - 1.645)
    found = errors([told] * 4, [0.9, 0.6, low + 1e-6, low - 1e-6], "accuracy")
    assert found["coverage_90"] == pytest.approx(0.75)
    assert found["bias"] == pytest.approx(0.8 - np.mean([0.9, 0.6, low, low]), abs=1e-6)
    assert found["mean_error"] == pytest.approx((0.1 + 0.2 + 2 * (0.8 - low)) / 4, abs=1e-6)


def test_each_example_is_forecast_by_others() -> None:
    rng = np.random.default_rng(0)
    examples = [
        Evaluation(candidate, "complete", {"divergence": far} | dict.fromkeys(SCORES, share))
        for candidate, far in zip(
            spread_examples(SearchSpace.from_yaml("digits"), 20, 0), rng.random(20), strict=True
        )
        for share in [expit(2 - 2 * far + 0.1 * rng.normal())]
    ]
    judge = known_divergences(examples)

    def fit(some: list[Evaluation]) -> CutForecast:
        assert len(some) == 16
        return CutForecast.fit(some, judge)

    found = validated_errors(examples, fit, "accuracy")  # type: ignore[arg-type]
    assert 0.005 < found["mean_error"] < 0.03 and 0.75 <= found["coverage_90"] <= 1
    assert validated_errors(examples[:9], fit, "accuracy") == {}  # type: ignore[arg-type]


SCORES = ("accuracy", "balanced_accuracy")
