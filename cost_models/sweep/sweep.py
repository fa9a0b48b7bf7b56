"""Sweep: what changing one thing at a time makes of a model's latency, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..device import Device
from .growth import Growth
from .variants import BATCH, SIZE, Value, value_of

LEAST = 0.02  # by which a setting must be faster to be kept, or slower to be called so


@dataclass(frozen=True)
class Point:
    """One variant as it was measured.

    Attributes:
        over: what was changed; empty for nothing.
        value: to what.
        batch: images of one run.
        clock: that timed it.
        latency_ms: of one run; None where it does not run.
        low_ms: tenth percentile over the rounds.
        high_ms: ninetieth percentile.
        memory_mb: growth of a fresh process that loads and runs it; None where not measured.
        refused: why it was not measured.
    """

    over: str
    value: Value
    batch: int
    clock: str = ""
    latency_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    memory_mb: float | None = None
    refused: str = ""

    @property
    def throughput(self) -> float | None:
        """Images a second."""
        return self.batch / self.latency_ms * 1e3 if self.latency_ms else None


@dataclass(frozen=True)
class Sweep:
    """All variants of one model on one device, timed in turn.

    Attributes:
        device: as it was given.
        rounds: samples of each.
        points: the first of them with nothing changed.
        tuned: the device with the settings that were faster; as given where none were.
        tuned_point: it, timed in turn with what was given once more; None where nothing is to keep.
        kept_ms: what the device as given took meanwhile; None likewise.
        ended: what was not gone through to its end, and why.
        side: of the images as given; 0 where it does not matter.
    """

    device: Device
    rounds: int
    points: list[Point]
    tuned: Device
    tuned_point: Point | None = None
    kept_ms: float | None = None
    ended: Mapping[str, str] = field(default_factory=dict[str, str])
    side: int = 0

    @property
    def base(self) -> Point:
        """The model with nothing changed."""
        return self.points[0]

    def of(self, name: str) -> list[Point]:
        """What was measured over an axis, in the order of its values."""
        return [p for p in self.points[1:] if p.over == name and p.latency_ms]

    def base_of(self, name: str) -> Point:
        """What the points of an axis are compared with: the value as given, by their clock."""
        if name in (SIZE, BATCH):
            return self.base
        own = value_of(self.device, name)
        return next((p for p in self.of(name) if p.value == own), self.base)

    @property
    def exponent(self) -> float | None:
        """Power of the side of an image by which latency grows; None of less than three sizes."""
        ms = self._by_side()
        return power_of(ms) if len(ms) >= 3 else None

    @property
    def growth(self) -> Growth | None:
        """Law by which latency grows with the side of an image; None of less than four sizes."""
        return Growth.fit(self._by_side(), self.side) if self.side else None

    def _by_side(self) -> dict[int, float]:
        """Latency by the side of an image, that as given among them if others were measured."""
        ms = {int(p.value): p.latency_ms or 0.0 for p in self.of(SIZE)}
        if ms and self.side and self.base.latency_ms:
            ms[self.side] = self.base.latency_ms
        return ms

    def best_batch(self, limit_ms: float | None) -> Point | None:
        """Batch of the highest throughput whose latency stays within a limit; None for none."""
        within = [
            p
            for p in [self.base, *self.of(BATCH)]
            if p.throughput and (limit_ms is None or (p.high_ms or 0) <= limit_ms)
        ]
        return max(within, key=lambda p: p.throughput or 0) if within else None

    def settings(self, device: Device | None = None) -> dict[str, dict[str, Any]]:
        """Each setting of a device beside the other values that were tried.

        Args:
            device: with these settings, as given by default.

        Returns:
            name -> "value", and "ratios" of its latency to that with each other value, with ends.
        """
        found: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys(p.over for p in self.points if p.over not in ("", SIZE, BATCH)):
            by_value = {value_of(self.device, name): self.base_of(name)}
            by_value |= {point.value: point for point in self.of(name)}
            own = value_of(device or self.device, name)
            others = {str(v): p for v, p in by_value.items() if v != own}
            if own in by_value and others:
                ratios = {value: _ratio(by_value[own], p) for value, p in others.items()}
                found[name] = {"value": own, "ratios": ratios}
        return found

    def slower_than(self, earlier: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Settings that were chosen in an earlier sweep and have lost against another value.

        Args:
            earlier: its `settings`.
        """
        lost: list[dict[str, Any]] = []
        for name, now in self.settings().items():
            then = earlier.get(name)
            if then is None or then["value"] != now["value"]:
                continue
            for other, ratio in now["ratios"].items():
                before = then["ratios"].get(other)
                if before and ratio[1] > before[2] and ratio[0] > before[0] * (1 + LEAST):
                    about = {"setting": name, "value": now["value"], "other": other}
                    lost.append(about | {"then": before[0], "now": ratio[0]})
        return lost

    def to_dict(self, limit_ms: float | None = None) -> dict[str, Any]:
        """Everything, as plain data."""
        best, growth = self.best_batch(limit_ms), self.growth
        return {
            "device": self.device.to_dict(),
            "rounds": self.rounds,
            "rows": [asdict(p) | {"images_per_s": p.throughput} for p in self.points],
            "ended": dict(self.ended),
            "size_exponent": self.exponent,
            "size_growth": asdict(growth) if growth else None,
            "best_batch": best.batch if best else None,
            "settings": self.settings(),
            "tuned": self.changes(),
            "tuned_ms": self.tuned_point.latency_ms if self.tuned_point else None,
            "instead_of_ms": self.kept_ms,
        }

    def changes(self) -> dict[str, Value]:
        """Settings of the tuned device that were other ones."""
        return {
            name: value_of(self.tuned, name)
            for name in self.settings()
            if value_of(self.tuned, name) != value_of(self.device, name)
        }


def power_of(ms: Mapping[int, float]) -> float:
    """Power of a size by which latency grows: the slope of the line through their logarithms.

    >>> round(power_of({100: 3.0, 200: 12.0, 400: 48.0}), 6)
    2.0

    Args:
        ms: size -> latency, of two sizes or more.
    """
    return float(np.polyfit(np.log([*ms]), np.log([*ms.values()]), 1)[0])


def faster(base: Point, points: Sequence[Point]) -> Point | None:
    """The fastest of some points, if it is faster than another beyond its and their spread."""
    timed = [p for p in points if p.latency_ms]
    best = min(timed, key=lambda p: p.latency_ms or 0, default=None)
    if best is None or not base.latency_ms or not base.low_ms or not best.high_ms:
        return None
    apart = best.high_ms < base.low_ms
    return best if apart and (best.latency_ms or 0) < base.latency_ms * (1 - LEAST) else None


def _ratio(base: Point, other: Point) -> tuple[float, float, float]:
    """Latency of one by that of another, and its lowest and highest by their ends."""
    ends = base.latency_ms, base.low_ms, base.high_ms, other.latency_ms, other.low_ms, other.high_ms
    a, a_low, a_high, b, b_low, b_high = (float(end or 0) for end in ends)
    return a / b, a_low / b_high, a_high / b_low
