"""Verdicts: yes, no, and how many candidates it would take to tell."""

import re

import pytest

from vitpareto.search.experiments.rank_statistics import Interval
from vitpareto.search.experiments.verdict import trusted, verdict

UNKNOWN = Interval(*(float("nan"),) * 3)
CEILING = Interval(0.9, 0.85, 0.95)
GOOD, POOR = Interval(0.9, 0.8, 0.95), Interval(0.3, 0.1, 0.5)
AHEAD, LEVEL = Interval(0.2, 0.1, 0.3), Interval(0.0, -0.02, 0.02)


@pytest.mark.parametrize("ceiling", [CEILING, UNKNOWN])
def test_what_is_clear_is_said(ceiling: Interval) -> None:
    assert verdict(GOOD, ceiling, AHEAD, 40) == "yes" and trusted(GOOD, ceiling, AHEAD)
    assert verdict(POOR, ceiling, AHEAD, 40) == "no" == verdict(GOOD, ceiling, LEVEL, 40)


@pytest.mark.parametrize(
    ("tau", "gain", "needed"),
    [
        (GOOD, Interval(0.1, -0.05, 0.25), 90),  # its low end reaches 0 at 40 * (0.15 / 0.1)^2
        (Interval(0.7, 0.5, 0.9), AHEAD, 160),  # its high end 0.8 at 40 * (0.2 / 0.1)^2
        (GOOD, Interval(0.0, -0.15, 0.15), 360),  # its high end 0.05 at 40 * (0.15 / 0.05)^2
        (Interval(0.7, 0.5, 0.9), Interval(0.0, -0.15, 0.15), 160),  # whatever comes first
    ],
)
def test_what_is_not_clear_would_be_with_more(tau: Interval, gain: Interval, needed: int) -> None:
    assert not trusted(tau, UNKNOWN, gain)
    assert verdict(tau, UNKNOWN, gain, 40) == f"cannot tell with n=40, about {needed} would"


def test_it_always_takes_more_than_there_were() -> None:
    for value in (1e-9, 0.049, 0.0501, 0.3):
        for half in (0.06, 0.4):
            said = verdict(GOOD, UNKNOWN, Interval(value, value - half, value + half), 40)
            if found := re.fullmatch(r"cannot tell with n=40, about (\d+) would", said):
                assert 40 < int(found[1]) <= 9999
