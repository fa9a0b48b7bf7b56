"""Scale: pixels of values on an axis, and round numbers for its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

ROUND = (1, 2, 5)
FINER = (1, 1.5, 2, 3, 5, 7)
WIDE = 6.0  # an axis over more than this ratio is logarithmic


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic axis.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: pixel of the low end.
        end: pixel of the high end.
        log: whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, end: float, log: bool | None = None
    ) -> Scale:
        """Make an axis that shows all values with a margin.

        Args:
            values: at least one, all of which it shows.
            start: pixel of the low end.
            end: pixel of the high end.
            log: as for `Scale`; by default where the values span a wide ratio.
        """
        shown = list(values)
        low, high = min(shown), max(shown)
        if log is None:
            log = low > 0 and high / low > WIDE
        if log:
            margin = (high / low) ** 0.06 if high > low else 1.5
            return cls(low / margin, high * margin, start, end, True)
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        return cls(low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """Pixel of a value; a value beyond an end is drawn there.

        >>> Scale(1, 100, 0, 10, log=True)(10)
        5.0
        """
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether a value is on the axis."""
        return self.low <= value <= self.high

    def ticks(self, n: int) -> list[float]:
        """About `n` round values inside.

        >>> Scale(0, 10, 0, 1).ticks(5)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        >>> Scale(0.08, 3, 0, 1, log=True).ticks(5)
        [0.1, 0.2, 0.5, 1.0, 2.0]
        >>> Scale(0.015, 5, 0, 1, log=True).ticks(3)
        [0.03, 0.3, 3.0]
        """
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            kept: list[float] = []
            for steps in (FINER, ROUND, (1, 3), (1,)):
                exact = [step * 10.0**decade for decade in decades for step in steps]
                ticks = [float(f"{tick:.6g}") for tick in exact if self.holds(tick)]
                if len(ticks) < 3:
                    break
                kept = ticks
                if len(kept) <= n + 1:
                    break
            if kept:
                return kept[:: -(-len(kept) // (n + 1))]
        ticks: list[float] = []
        for finer in (1, 2, 4):
            step = _round_up((self.high - self.low) / (n * finer))
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            ticks = [float(f"{k * step:.6g}") for k in range(first, last + 1)]
            if len(ticks) >= 3:
                break
        return ticks


def _round_up(step: float) -> float:
    """The next round number.

    >>> _round_up(0.03), _round_up(7)
    (0.05, 10.0)
    """
    decade = 10.0 ** math.floor(math.log10(step))
    return next(k * decade for k in (*ROUND, 10) if k * decade >= step * (1 - 1e-9))
