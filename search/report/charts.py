"""Charts: progress of the search."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from ..pareto.hypervolume import Archive, Box
from ..pareto.objectives import spelled, violations
from ..scoring.predicted_costs import CostPredictor
from .facts import Facts
from .markup import tag, text
from .scale import Scale
from .svg import NARROW, frame, path, picture, steps
from .words import percent


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
