"""Lines that `vitpareto sweep` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...cost_models.sweep.sweep import Point, Sweep
from ...cost_models.sweep.variants import BATCH
from ..counted import counted
from .text import known


def sweep_lines(
    name: str,
    sweep: Sweep,
    limit_ms: float | None,
    slower: Sequence[Mapping[str, Any]],
    saved: Path | None,
) -> list[str]:
    """All of a sweep."""
    device, base = sweep.device, sweep.base
    lines = [
        f"{name} on {device.name}, {counted(device.threads, 'thread')}, batch {device.batch}: "
        f"{base.latency_ms:.4g} ms a run, of {counted(sweep.rounds, 'round')} in turn",
        f"{'':26} {'ms':>9} {'p10 - p90':>19} {'ratio':>7} {'images/s':>9} {'peak MB':>8}",
    ]
    for point in sweep.points:
        lines.append(_line(sweep, point))
    lines += [f"{axis} ends: {why}" for axis, why in sweep.ended.items()]
    if sweep.exponent is not None:
        lines.append(f"latency grows with the side of an image to the power {sweep.exponent:.2f}")
    if growth := sweep.growth:
        lines.append(
            f"of {growth.side} px {growth.fixed_ms:.4g} ms are the same for all sizes, "
            f"{growth.tokens_ms:.4g} ms grow with the tokens and {growth.pairs_ms:.4g} ms with "
            f"their square: {growth.quadratic_error:.1%} off about a size left out, an exponential "
            f"{growth.exponential_error:.1%}"
        )
    if sweep.of(BATCH):
        best = sweep.best_batch(limit_ms)
        within = f" within {limit_ms:g} ms" if limit_ms else ""
        lines.append(
            f"best batch{within}: {best.batch}, {best.throughput:.4g} images/s"
            if best
            else f"no batch stays{within}"
        )
    lines.append(_tuned(sweep))
    for lost in slower:
        lines.append(
            f"SLOWER than when it was chosen: {lost['setting']} {lost['value']} took "
            f"{lost['then']:.2f} of the time with {lost['other']} then, and {lost['now']:.2f} now"
        )
    if saved:
        lines.append(f"Written: {saved}, for --device and for `device:` of runs")
    return lines


def _line(sweep: Sweep, point: Point) -> str:
    what = f"{point.over} {point.value}" if point.over else "as given"
    if point.refused:
        return f"{what:26} refused: {point.refused}"
    base = sweep.base_of(point.over) if point.over else sweep.base
    ratio = (point.latency_ms or 0) / (base.latency_ms or 1)
    spread = f"{point.low_ms:.3f} - {point.high_ms:.3f}"
    return (
        f"{what:26} {point.latency_ms:9.3f} {spread:>19} {ratio:7.2f} {point.throughput:9.1f} "
        f"{known(point.memory_mb, '8.1f')}"
    )


def _tuned(sweep: Sweep) -> str:
    if sweep.tuned_point is None or not sweep.tuned_point.latency_ms or not sweep.kept_ms:
        return "no other setting is faster beyond the spread of the rounds"
    changes = ", ".join(f"{name} {value}" for name, value in sweep.changes().items())
    ratio = sweep.tuned_point.latency_ms / sweep.kept_ms
    return f"faster: {changes}; together {ratio:.2f} of the time as given, timed once more"
