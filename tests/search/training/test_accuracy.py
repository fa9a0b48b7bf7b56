"""Accuracies and scores: as scikit-learn and definitions say, with intervals that hold."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional as F

from vitpareto.search.training.accuracy import (
    accuracy,
    accuracy_and_score,
    balanced_accuracy,
    effective_images,
)

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


def answered(answers: list[int], classes: int = 7) -> torch.Tensor:
    return F.one_hot(torch.tensor(answers), classes).float()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not", "ignore:A single label")
@given(pairs)
def test_the_balanced_accuracy_is_that_of_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    """Also where some classes have no image, and are answered all the same."""
    labels, answers = map(list, zip(*drawn, strict=True))
    found = accuracy(answered(answers), torch.tensor(labels))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, answers))
    assert found["accuracy"] == pytest.approx(np.mean(np.equal(labels, answers)))
    for name in ("accuracy", "balanced_accuracy"):
        assert 0 <= found[f"{name}_low"] <= found[name] + 1e-12
        assert found[name] - 1e-12 <= found[f"{name}_high"] <= 1


@given(pairs)
def test_the_balanced_score_counts_classes_and_the_other_one_images(
    drawn: list[tuple[int, int]],
) -> None:
    labels, answers = (torch.tensor(part) for part in zip(*drawn, strict=True))
    logits = 2 * F.one_hot(answers, 7).float() + torch.randn(
        len(labels), 7, generator=torch.Generator().manual_seed(0)
    )
    losses = F.cross_entropy(logits, labels, reduction="none")
    by_class = [losses[labels == label].mean().item() for label in set(labels.tolist())]
    found = accuracy_and_score(logits, labels)
    assert found["balanced_score"] == pytest.approx(-math.log(np.mean(by_class)), abs=1e-5)
    assert found["score"] == pytest.approx(-math.log(losses.mean().item()), abs=1e-5)


def test_always_saying_the_most_frequent_class_is_no_use() -> None:
    labels = torch.tensor([0] * 96 + [1] * 4)
    found = accuracy(answered([0] * 100, 2), labels)
    assert found["accuracy"] == 0.96 and found["balanced_accuracy"] == 0.5


@pytest.mark.parametrize(
    ("recalls", "images"),
    [
        ([0.9, 0.5], [400, 12]),
        ([0.95] * 10, [35] * 10),
        ([0.99, 0.8, 0.6], [300, 40, 8]),
        ([0.97, 0.97], [500, 20]),
        ([0.9] * 20, [5] * 20),
        ([0.99] * 50, [20] * 50),
    ],
)
def test_95_percent_of_the_intervals_hold_the_truth(
    recalls: list[float], images: list[int]
) -> None:
    drawn = np.random.default_rng(0).binomial(images, recalls, (4000, len(images)))
    found = [balanced_accuracy(correct, images) for correct in drawn.tolist()]
    inside = np.mean(
        [
            f["balanced_accuracy_low"] <= np.mean(recalls) <= f["balanced_accuracy_high"]
            for f in found
        ]
    )
    assert inside > 0.94


def test_effective_images_give_the_variance_of_the_mean_recall() -> None:
    labels = torch.tensor([0] * 400 + [1] * 10)
    assert effective_images(labels, "accuracy") == 410
    drawn = np.random.default_rng(0).binomial([400, 10], 0.8, (40000, 2)) / [400, 10]
    wanted = 0.8 * 0.2 / effective_images(labels, "balanced_accuracy")
    assert drawn.mean(1).var() == pytest.approx(wanted, rel=0.03)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="not all finite"):
        accuracy(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
