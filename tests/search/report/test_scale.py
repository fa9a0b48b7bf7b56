import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpareto.search.report.scale import Scale

values = st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=20)


@given(values)
def test_all_values_are_on_the_axis_in_their_order(found: list[float]) -> None:
    scale = Scale.around(found, 10, 110)
    assert all(scale.holds(value) and 10 <= scale(value) <= 110 for value in found)
    places = [scale(value) for value in sorted(found)]
    assert places == sorted(places)


@given(values, st.integers(3, 12))
def test_ticks_are_few_round_and_inside(found: list[float], n: int) -> None:
    scale = Scale.around(found, 0, 1)
    ticks = scale.ticks(n)
    assert 2 <= len(ticks) <= 2 * n + 1
    assert ticks == sorted(set(ticks))
    for tick in ticks:
        assert scale.low * 0.999 <= tick <= scale.high * 1.001
        assert len(f"{tick:g}".replace(".", "").strip("0")) <= 6
    if scale.log and len(ticks) > 3:  # three round numbers may be all that there are
        ratios = [math.log(b / a) for a, b in pairwise(ticks)]
        assert max(ratios) < 8 * min(ratios)


def test_an_axis_of_few_labels_has_some_where_the_models_are() -> None:
    ticks = Scale.around([0.02, 0.2, 4.0], 52, 344).ticks(3)  # as at 400 pixels
    assert len(ticks) >= 3
    assert sum(tick <= 0.3 for tick in ticks) >= 2


def test_a_wide_ratio_is_logarithmic_and_zero_never_is() -> None:
    assert Scale.around([0.1, 10], 0, 1).log
    assert not Scale.around([5, 10], 0, 1).log
    assert not Scale.around([0, 10], 0, 1).log
    assert Scale.around([1, 1], 0, 1)(1) == pytest.approx(0.5)
