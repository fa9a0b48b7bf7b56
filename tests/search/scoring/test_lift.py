"""Lifts: forecasts of short trainings become those of whole ones."""

import math

import numpy as np
import pytest

from vitpareto.search.experiments.rank_statistics import kendall_tau
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.forecast import expit, logit
from vitpareto.search.scoring.lift import Lift, Lifted, anchors
from vitpareto.spaces import Candidate, SearchSpace


def short(candidate: Candidate) -> dict[str, float]:
    value = expit(math.log(candidate.architecture.stages[0].width) - 4)
    return {"accuracy": value, "accuracy_low": value - 0.02, "accuracy_high": value + 0.02}


def whole(candidate: Candidate) -> float:
    return expit(1.0 + 0.6 * logit(short(candidate)["accuracy"]))


def test_three_models_tell_what_the_others_become() -> None:
    space = SearchSpace.from_yaml("digits")
    candidates = sorted(space.sample(60, 1), key=whole)
    told = [candidates[0], candidates[30], candidates[-1]]
    finished = [Evaluation(c, "complete", {"accuracy": whole(c)}) for c in told]
    lifted = Lifted.fit(short, finished)
    for candidate in candidates:
        found = lifted(candidate)
        assert found["accuracy"] == pytest.approx(whole(candidate), abs=0.02)
        assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
        assert set(found) == set(short(candidate))  # what was never forecast is not lifted
    values = np.array([lifted(c)["accuracy"] for c in candidates])
    assert kendall_tau(values, np.array([short(c)["accuracy"] for c in candidates])) == 1


def test_models_that_hardly_differ_tell_the_level_alone() -> None:
    lift = Lift.fit([0.5, 0.501, 0.499], [0.8, 0.79, 0.81])  # by chance in the wrong order
    assert lift(0.5) == pytest.approx(0.8, abs=0.005)
    assert lift(0.3) < lift(0.5) - 0.1 and lift(0.7) > lift(0.5) + 0.1
    one = Lift.fit([0.5], [0.8])
    assert logit(one(0.9)) - logit(0.9) == pytest.approx(logit(0.8))


def test_the_order_is_never_turned() -> None:
    lift = Lift.fit([0.2, 0.5, 0.9], [0.9, 0.5, 0.2])
    assert lift(0.2) < lift(0.5) < lift(0.9)


def test_anchors_are_poor_middling_and_good() -> None:
    candidates = SearchSpace.from_yaml("digits").sample(21, 0)
    trained = [Evaluation(c, "complete", {"accuracy": i / 20}) for i, c in enumerate(candidates)]
    failed = Evaluation(SearchSpace.from_yaml("digits").largest(), "failed")
    assert anchors([failed, *reversed(trained)], "accuracy") == [
        candidates[2],
        candidates[10],
        candidates[18],
    ]
    assert Lifted.fit(short, [failed])(candidates[0]) == short(candidates[0])
