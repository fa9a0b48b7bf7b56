"""Cells of the comparison of families, and the powers by which their latency grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitpareto.cost_models.sweep.sweep import power_of

DRAWS, ENDS = 400, (5, 95)  # resampled rounds, and percentiles of their exponents
Powers = Mapping[tuple[str, str], tuple[float, float, float]]


@dataclass(eq=False)
class Cell:
    """One mixer on one grid in one precision.

    Attributes:
        macs: multiply-accumulates of the network.
        samples_ms: latency in each round, without what slowed all of it.
        memory_mb: growth of a fresh process that runs it; None where it was not measured.
        refused: why it was not measured.
    """

    mixer: str
    side: int
    precision: str
    macs: int = 0
    samples_ms: tuple[float, ...] = ()
    memory_mb: float | None = None
    refused: str = ""

    @property
    def latency_ms(self) -> float:
        """Median over the rounds."""
        return float(np.median(self.samples_ms))


def exponents(cells: Sequence[Cell]) -> Powers:
    """Mixer and precision -> power of the tokens by which latency grows, and its 90% interval.

    The interval is that of resampled rounds: it tells how well the power was measured, not how far
    latency is from one power. Where fewer than two grids were timed there is none.
    """
    found: dict[tuple[str, str], tuple[float, float, float]] = {}
    for name, precision in dict.fromkeys((c.mixer, c.precision) for c in cells):
        own = [c for c in cells if (c.mixer, c.precision) == (name, precision) and c.samples_ms]
        if len(own) < 2:
            continue
        samples = np.array([c.samples_ms for c in own]).T  # (rounds, grids)
        rounds = np.random.default_rng(0).integers(len(samples), size=(DRAWS, len(samples)))
        medians = [np.median(samples, 0), *np.median(samples[rounds], 1)]
        tokens = [c.side**2 for c in own]
        powers = [power_of(dict(zip(tokens, ms, strict=True))) for ms in medians]
        low, high = np.percentile(powers[1:], ENDS)
        found[name, precision] = powers[0], float(low), float(high)
    return found
