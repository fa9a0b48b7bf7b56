"""Strata: candidates of all sizes, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

from ...cost_models import workload
from ...spaces import Candidate, SearchSpace
from .forecast import draw_examples

POOL = 400  # random draws whose work is ranked


def spread_examples(space: SearchSpace, n: int, seed: int) -> list[Candidate]:
    """Up to `n` random candidates whose work is spread as that of all candidates is.

    Those of a smaller `n` come first.
    """
    pool = sorted(draw_examples(space, POOL, seed), key=lambda c: workload(c).macs)
    ranks = (int(rank * len(pool)) for rank in islice(van_der_corput(), 4 * len(pool)))
    return [pool[rank] for rank in islice(dict.fromkeys(ranks), n)]


def van_der_corput() -> Iterator[float]:
    """1/2, 1/4, 3/4, 1/8, ...: points of [0, 1) that are spread evenly at every length."""
    for k in count(1):
        digits = f"{k:b}"[::-1]
        yield int(digits, 2) / 2 ** len(digits)
