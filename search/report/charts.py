"""Charts: promises against measurements, and progress of the search."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from ..pareto.hypervolume import Archive, Box
from ..pareto.objectives import spelled, violations
from ..scoring.predicted_costs import CostPredictor
from .facts import Facts
from .markup import tag, text
from .scale import Scale
from .svg import NARROW, frame, label, path, picture, steps
from .words import latency, ms, percent


def promise_chart(facts: Facts, width: int) -> str:
    """Draw the measured latency of every delivered model in its promised interval.

    All are relative to the promise, so that fast and slow models compare, and at the speed of the
    calibration.
    """
    rows, left = facts.measured, 40
    height = 34 * len(rows) + 60
    right = width - (240 if width > NARROW else 16)
    ends = [
        100 * (end / m.promised.latency_ms - 1)
        for m in rows
        for end in (m.promised.low_ms, m.promised.high_ms)
    ]
    values = [100 * (m.measured().calibrated_ms / m.promised.latency_ms - 1) for m in rows]
    x = Scale.around([*ends, *values, 0.0], left, right, log=False)
    parts: list[str] = []
    for tick in x.ticks(max(3, (right - left) // 100)):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=8, y2=height - 46, class_="grid"))
        parts.append(label(x(tick), height - 28, f"{tick:+g}%" if tick else "0", "tick", "middle"))
    words = "measured latency beside the promise"
    parts.append(label(right, height - 8, words, "axis", "end"))
    for i, m in enumerate(rows):
        middle, letter = 26 + 34 * i, facts.letter(m.key)
        promised, measured = m.promised, m.measured()
        tip = (
            f"{letter}: {m.key}\n{latency(measured)} measured\n{ms(promised.latency_ms)} promised, "
        )
        tip += f"90% interval {ms(promised.low_ms)} to {ms(promised.high_ms)}\n"
        tip += f"{ms(promised.predicted_ms)} predicted by the search"
        low, high = x(ends[2 * i]), x(ends[2 * i + 1])
        kind = "model" if m.inside_interval else "model unverified"
        parts += [
            label(left - 20, middle + 5, letter, "letter", "middle"),
            tag(
                "rect",
                x=low,
                y=middle - 7,
                width=high - low,
                height=14,
                rx=7,
                class_="band",
                data_tip=tip,
            ),
            tag("line", x1=x(0), x2=x(0), y1=middle - 9, y2=middle + 9, class_="promise"),
            tag("circle", cx=x(values[i]), cy=middle, r=6, class_=kind, data_tip=tip, tabindex=0),
        ]
        if width > NARROW:
            words = f"{ms(measured.calibrated_ms)}, {ms(promised.latency_ms)} promised"
            parts.append(label(right + 16, middle + 5, words, "tick"))
    return picture(width, height, "Measured against promised latency", *parts)


def progress_chart(facts: Facts, width: int) -> str:
    """Draw the hypervolume of the front against scored candidates and against time."""
    volumes, best = progress_of(facts)
    if not volumes:
        return tag("p", text("No candidate within the limits was scored."))
    seconds = [*accumulate(e.seconds for e in facts.evaluations)]
    half = (width - 40) // 2 if width > NARROW else width
    height, share = 240, spelled(facts.goal)
    offsets = [(0, 0), (width - half, 0) if width > NARROW else (0, height)]
    panels: list[str] = []
    across = [([*range(1, len(volumes) + 1)], "candidates scored"), (seconds, "seconds of scoring")]
    for (xs, x_label), (dx, dy) in zip(across, offsets, strict=True):
        x = Scale(0, max(xs[-1], 1e-9), 52, half - 12)
        y = Scale(0, 1.08 * max(max(volumes), 1e-9), height - 46, 30)
        points = [(x.start, y.start), *((x(a), y(v)) for a, v in zip(xs, volumes, strict=True))]
        tips = [
            tag(
                "rect",
                x=x(a) - 4,
                y=y.end,
                width=8,
                height=y.start - y.end,
                class_="hit",
                data_tip=f"{a:,.4g} {x_label}\nhypervolume {v:.4f}\nbest {share} {percent(b)}",
            )
            for a, v, b in thinned([*zip(xs, volumes, best, strict=True)], 120)
        ]
        inner = frame(x, y, x_label, "hypervolume") + path(steps(points), "volume") + "".join(tips)
        panels.append(tag("g", inner, transform=f"translate({dx} {dy})"))
    total = height if width > NARROW else 2 * height
    return picture(width, total, "Progress of the search", *panels)


def progress_of(facts: Facts) -> tuple[list[float], list[float]]:
    """Hypervolume and best accuracy within all limits after each scored candidate."""
    objectives = facts.objectives
    archive = Archive(Box.of_space(facts.space, objectives, CostPredictor(facts.cost_model).all))
    volumes: list[float] = []
    best: list[float] = []
    for e in facts.evaluations:
        top = best[-1] if best else 0.0
        if all(excess <= 0 for excess in violations(e.metrics, objectives).values()):
            archive.add([o.loss(e.metrics[o.name]) for o in objectives if o.traded])
            top = max(top, e.metrics[facts.goal])
        volumes.append(archive.volume)
        best.append(top)
    return volumes, best


def thinned(items: list[Any], n: int) -> list[Any]:
    """About `n` items of a list at most, evenly spaced, with the last one."""
    step = -(-len(items) // n) or 1
    return items[::-1][::step][::-1]
