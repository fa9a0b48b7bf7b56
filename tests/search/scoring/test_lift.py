"""Lifts: forecasts of short trainings become those of whole ones."""

import math

import numpy as np
import pytest

from vitpareto.search.experiments.rank_statistics import kendall_tau
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.forecast import expit, logit
from vitpareto.search.scoring.forecast_errors import errors
from vitpareto.search.scoring.lift import Lift, Lifted, anchors, learn, lifted
from vitpareto.search.training.accuracy import Z
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


def facts(middle: float, spread: float) -> dict[str, float]:
    ends = (("_low", -Z), ("", 0.0), ("_high", Z))
    return {f"accuracy{end}": expit(middle + z * spread) for end, z in ends}


@pytest.mark.parametrize(
    ("n", "earlier", "wrong", "least"),
    [(1, 0, 1.0, 0.82), (2, 0, 1.0, 0.84), (4, 0, 1.0, 0.85), (4, 3, 1.0, 0.85), (8, 0, 2.0, 0.75)],
)
def test_finished_models_move_forecasts_and_their_intervals_hold(
    n: int, earlier: int, wrong: float, least: float
) -> None:
    """All become better by an unknown amount; at worst intervals are half as wide as is right."""
    rng, inside, before, after = np.random.default_rng(0), list[float](), [0.0], [0.0]
    for _ in range(300):
        lift = rng.normal(0.0 if earlier else 0.5, 0.07 if earlier else 0.3)
        middles = rng.normal(0.8, 0.5, n + 10)
        true = middles + lift + 0.12 * wrong * rng.normal(size=n + 10)
        told = [facts(middle, 0.12) for middle in middles]
        became = [expit(value) for value in true]
        lifts = learn(told[:n], [{"accuracy": value} for value in became[:n]], earlier)
        moved = [lifted(metrics, lifts) for metrics in told[n:]]
        inside.append(errors(moved, became[n:], "accuracy")["coverage_90"])
        before.append(errors(told[n:], became[n:], "accuracy")["mean_error"])
        after.append(errors(moved, became[n:], "accuracy")["mean_error"])
    assert least < np.mean(inside) < 0.97
    assert np.mean(after) < (1.05 if earlier else 0.6) * np.mean(before)


def test_models_that_lifted_it_before_count() -> None:
    """Three about which it is right on average, and one that is better by 0.4."""
    (lift,) = learn([facts(0.0, 0.1)], [{"accuracy": expit(0.4)}], earlier=3).values()
    assert logit(lift(0.5)) == pytest.approx(0.1)
    assert learn([], []) == {}


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
