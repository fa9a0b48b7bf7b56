"""Nearest: the candidate that misses the limits by the least, for when none keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...spaces import Candidate, SearchSpace
from ..pareto.objectives import Objective, Price, violations

SAMPLED = 500  # candidates from which the way downhill starts
MANY = 9.0  # times the limit from which on a factor is clearer than a percentage


def excess(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> float:
    """By how much metrics break the limits in all, relative to them; 0 where they keep them."""
    return sum(max(0.0, value) for value in violations(metrics, objectives).values())


def misses(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> str:
    """Limits that metrics break, and by how much, in words; empty where they keep all.

    >>> misses({"latency_ms": 3.0}, [Objective("latency_ms", 2.0)])
    'latency_ms 3, off its limit 2 by 50%'
    """
    limits = {o.name: o.limit for o in objectives}
    return "; ".join(
        f"{name} {metrics[name]:.4g}, off its limit {limits[name]:g} by "
        + (f"{by:.0%}" if by < MANY else f"a factor of {1 + by:,.0f}")
        for name, by in violations(metrics, objectives).items()
        if by > 0
    )


def nearest(
    space: SearchSpace, objectives: Sequence[Objective], price: Price, seed: int
) -> tuple[Candidate, Mapping[str, float]]:
    """The candidate whose costs come nearest to the limits, and its costs.

    The best of the smallest and a sample, then from neighbor to neighbor while that helps.

    Args:
        space: where to look.
        objectives: only their limits on costs count.
        price: gives exact costs of candidates.
        seed: of the sample.
    """

    def best(candidates: Sequence[Candidate]) -> tuple[float, Candidate, Mapping[str, float]]:
        known = price(candidates)
        ranked = [(excess(c, objectives), i) for i, c in enumerate(known)]
        least, i = min(ranked)
        return least, candidates[i], known[i]

    here = best([space.smallest(), *space.sample(SAMPLED, seed)])
    while here[0] > 0:
        there = best([here[1], *space.neighbors(here[1])])
        if there[0] >= here[0]:
            break
        here = there
    return here[1], here[2]
