"""Verdict: whether a score can be trusted, or how many candidates it would take to tell."""

from __future__ import annotations

import math

from .rank_statistics import Interval

TAU, OF_CEILING, ADVANTAGE = 0.80, 0.90, 0.05  # least values of a trusted proxy
MOST = 9999  # candidates that anybody would train to tell


def trusted(tau: Interval, ceiling: Interval, gain: Interval) -> bool:
    """Whether a proxy ranks well enough, and better than untrained baselines."""
    well = tau.value >= TAU or tau.value >= OF_CEILING * ceiling.value
    return bool(well and gain.value >= ADVANTAGE and gain.low > 0)


def verdict(tau: Interval, ceiling: Interval, gain: Interval, n: int) -> str:
    """Say "yes", "no", or how many candidates would tell.

    It is yes where the proxy is trusted, and no where an interval ends below what that takes.
    Between the two it could be either; intervals shrink with the square root of the number.

    Args:
        tau: of the proxy.
        ceiling: what seeds allow; NaN where it is not known.
        gain: tau of the proxy less that of the best baseline, paired.
        n: number of candidates.
    """
    if trusted(tau, ceiling, gain):
        return "yes"
    least = TAU if math.isnan(ceiling.value) else min(TAU, OF_CEILING * ceiling.value)
    if tau.high < least or gain.high < ADVANTAGE:
        return "no"
    short = [
        (figure.high - figure.value) / (bound - figure.value)
        for figure, bound in ((tau, least), (gain, ADVANTAGE))
        if figure.value < bound
    ]
    ratio = min(short) if short else (gain.value - gain.low) / gain.value
    needed = 10 * math.ceil(round(n * ratio**2 / 10, 6)) if math.isfinite(ratio) else MOST
    return f"cannot tell with n={n}, about {max(min(needed, MOST), n + 1)} would"
