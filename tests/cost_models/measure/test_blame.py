"""The choices that are blamed are those that made parts fail."""

import itertools
import random
from typing import Any

import pytest

from vitpareto.cost_models.measure.blame import blame

NAMES = {
    "mixer": ["softmax", "window", "pool"],
    "norm": ["layer", "rms"],
    "act": ["gelu", "relu"],
    "width": [16, 32, 64],
}
ORDER = list(NAMES)


def parts(clauses: list[dict[str, Any]], count: int = 300) -> tuple[list[Any], list[Any]]:
    """Random parts, those first in which all of any clause meet."""
    rng = random.Random(0)
    drawn = [{name: rng.choice(some) for name, some in NAMES.items()} for _ in range(count)]
    fails = [any(c.items() <= part.items() for c in clauses) for part in drawn]
    return list(itertools.compress(drawn, fails)), [
        p for p, f in zip(drawn, fails, strict=True) if not f
    ]


@pytest.mark.parametrize(
    "clauses",
    [
        [{"mixer": "window"}],
        [{"mixer": "pool"}, {"mixer": "window"}],
        [{"mixer": "window", "norm": "rms"}],
        [{"mixer": "window"}, {"act": "relu", "norm": "rms"}],
        [{"mixer": "window", "norm": "rms", "act": "relu"}],
        [],
    ],
    ids=str,
)
def test_the_clauses_that_made_parts_fail_are_found(clauses: list[dict[str, Any]]) -> None:
    found = blame(*parts(clauses), ORDER)
    assert sorted(map(sorted, map(dict.items, found))) == sorted(
        map(sorted, map(dict.items, clauses))
    )


def test_the_first_of_two_that_always_meet_is_blamed() -> None:
    failing = [{"weight_bits": bits, "act_bits": act} for bits in (4, 8) for act in (8, 32)]
    others = [{"weight_bits": 32}]
    found = blame(failing, others, ["weight_bits", "act_bits"])
    assert found == [{"weight_bits": 4}, {"weight_bits": 8}]


def test_what_has_one_value_is_no_choice() -> None:
    failing, others = [{"mixer": "window", "window_size": 7}], [{"mixer": "softmax"}]
    assert blame(failing, others, ["window_size", "mixer"]) == [{"mixer": "window"}]


def test_what_no_choice_tells_apart_goes_with_what_is_like_it() -> None:
    """Every second window is shifted, and only these fail."""
    failing = [{"mixer": "window", "width": w} for w in (16, 32, 64)]
    others = [*failing, *({"mixer": "softmax", "width": w} for w in (16, 32, 64))]
    assert blame(failing, others, ORDER) == [{"mixer": "window"}]


def test_nothing_is_to_blame_where_everything_fails() -> None:
    assert blame([{"mixer": "window"}, {"mixer": "pool"}], [], ORDER) == []
