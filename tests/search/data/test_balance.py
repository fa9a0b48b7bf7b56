"""Balance: weights and draws that make classes equal, and the line that says they are not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitpareto.search.data.balance import balance_warning, class_weights, drawn_equally

labels = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(torch.tensor)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(labels)
def test_weights_make_all_classes_count_alike_and_one_on_average(found: torch.Tensor) -> None:
    weights = class_weights(found)
    assert weights.mean().item() == pytest.approx(1)
    sums = [weights[found == label].sum().item() for label in found.unique()]
    assert sums == pytest.approx([sums[0]] * len(sums))


@given(labels, st.integers(0, 3))
def test_all_classes_are_drawn_equally_often(found: torch.Tensor, seed: int) -> None:
    drawn = drawn_equally(found, generator(seed))
    assert len(drawn) == len(found)
    times = torch.bincount(drawn, minlength=len(found))
    classes = found.unique()
    by_class = [int(times[found == label].sum()) for label in classes]
    assert max(by_class) - min(by_class) <= 1
    for label in classes:  # all images of a class come before one comes again
        own = times[found == label]
        assert own.max() - own.min() <= 1


def test_draws_are_a_function_of_their_generator() -> None:
    found = torch.tensor([0] * 50 + [1] * 5)
    first, again, other = (drawn_equally(found, generator(seed)) for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)
    assert set(torch.cat([drawn_equally(found, generator(s)) for s in range(20)]).tolist()) == set(
        range(55)
    )


@pytest.mark.parametrize(
    "counts", [{}, {"cat": 90, "dog": 70}, {"cat": 99, "dog": 20}, dict.fromkeys("abc", 20)]
)
def test_nothing_is_said_of_classes_that_are_nearly_even(counts: dict[str, int]) -> None:
    assert balance_warning(counts) is None


def test_uneven_classes_are_named_with_what_accuracy_is_worth() -> None:
    said = balance_warning({"cat": 96, "dog": 4})
    assert said == (
        "class 'cat' has 96 train images, 'dog' has 4; always answering 'cat' would have an "
        "accuracy of 96%: trade or limit balanced_accuracy instead, and set data.balance to weight "
        "or sample"
    )
    assert "'cat' has 1,000 train images, 'dog' has 200" in str(
        balance_warning({"owl": 500, "dog": 200, "cat": 1000})
    )


@pytest.mark.parametrize("counts", [{"a": 3, "b": 0}, {"only": 5}])
def test_empty_classes_are_no_special_case(counts: dict[str, int]) -> None:
    assert "fewer than 20 train images" in str(balance_warning(counts))


def test_small_classes_are_counted_and_three_are_named() -> None:
    said = str(balance_warning({"a\nb": 19, "b": 30} | dict.fromkeys("cdef", 12)))
    assert said.startswith(
        "fewer than 20 train images in 5 of 6 classes: 'a\\nb', 'c', 'd' and 2 more"
    )
    assert "\n" not in said
