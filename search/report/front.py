"""Front: accuracy against latency of scored, delivered and compared models."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..delivery.manifest import Manifest
from ..pareto.objectives import spelled
from ..scoring.evaluation import Evaluation
from .facts import Facts
from .markup import tag
from .scale import Scale
from .svg import NARROW, frame, label, path, picture, steps
from .words import in_words, interval, latency, mb, ms, percent, share

SIZES = 5  # shades in which sizes are shown
LOWEST = 0.05  # share of the scored candidates that may lie below the plot
CROWDED = 26  # pixels between two models below which a letter has no room
LETTER, LINE = 6.5, 13  # pixels of a letter in a name, and of a line
POINTS = 1500  # most points that are drawn beside the front


def front_chart(facts: Facts, width: int) -> str:
    """Draw accuracy and latency: scored candidates, their front, delivered models, baselines."""
    height = 520 if width > NARROW else 400
    x, y = _plane(facts, width, height)
    shade, best = shades(facts), {e.key for e in facts.front}
    rest = [e for e in facts.shown if e.key not in best]
    rest = rest[:: -(-len(rest) // POINTS) or 1]
    parts = [frame(x, y, "latency, ms", f"{spelled(facts.goal)}, %"), *_levels(facts, x, y)]
    parts += [_dot(e, facts.goal, x, y, shade(e.metrics), "dot") for e in rest]
    corners = [(x(e.metrics["latency_ms"]), y(100 * e.metrics[facts.goal])) for e in facts.line]
    if corners:
        parts.append(path(steps(corners), "front"))
    parts += [_dot(e, facts.goal, x, y, shade(e.metrics), "dot on-front") for e in facts.front]
    parts += _baselines(facts, x, y)
    xs = [x(m.figures.calibrated_ms) for m in facts.shown_models]
    for i, m in enumerate(facts.shown_models):
        crowded = i + 1 < len(xs) and xs[i + 1] - xs[i] < CROWDED
        parts.append(_model(facts, m, x, y, "end" if crowded else "start"))
    return picture(width, height, f"{spelled(facts.goal).capitalize()} against latency", *parts)


def _plane(facts: Facts, width: int, height: int) -> tuple[Scale, Scale]:
    """Axes that show everything but perhaps the least accurate candidates."""
    limits, goal = facts.config.search.limits, facts.goal
    shown = [*(m.figures.at_calibrated_speed() for m in facts.shown_models), *facts.baselines]
    scored = [e.metrics for e in facts.shown]
    latencies = [m["latency_ms"] for m in (*scored, *shown)]
    accuracies = [m[goal] for m in (*shown, *(e.metrics for e in facts.line))]
    if scored:
        accuracies += np.quantile([m[goal] for m in scored], [LOWEST, 1.0]).tolist()
    latencies += [limits["latency_ms"]] if "latency_ms" in limits else []
    accuracies += [limits[goal]] if goal in limits else []
    accuracies += [facts.teacher_accuracy] if facts.teacher_accuracy is not None else []
    x = Scale.around(latencies, 52, width - 16)
    y = Scale.around([100 * a for a in accuracies], height - 48, 30, log=False)
    return x, Scale(max(0.0, y.low), min(100.5, y.high), y.start, y.end)


def shades(facts: Facts) -> Callable[[Mapping[str, float]], str]:
    """Function from metrics to the class of a shade, by size."""
    edges = size_edges([e.metrics["size_mb"] for e in facts.evaluations])
    return lambda metrics: f"s{bisect_right(edges, metrics['size_mb'])}"


def size_edges(sizes: Sequence[float]) -> list[float]:
    """Sizes at which the shade changes, with equally many candidates in each."""
    if not sizes:
        return []
    return [float(q) for q in np.quantile(sizes, np.arange(1, SIZES) / SIZES)]


def _dot(e: Evaluation, goal: str, x: Scale, y: Scale, shade: str, kind: str) -> str:
    m = e.metrics
    words = f"{e.key}\n{interval(m, goal)} estimated\n{ms(m['latency_ms'])} "
    words += f"predicted, {mb(m['size_mb'])}\n{in_words(e.candidate)}"
    return tag(
        "circle",
        cx=x(m["latency_ms"]),
        cy=y(100 * m[goal]),
        r=5 if "front" in kind else 3.5,
        class_=f"{kind} {shade}",
        data_tip=words,
    )


def _levels(facts: Facts, x: Scale, y: Scale) -> list[str]:
    """Limits and the teacher, as lines across the plot."""
    parts: list[str] = []
    limits = facts.config.search.limits
    if "latency_ms" in limits:
        at = x(limits["latency_ms"])
        parts.append(tag("line", x1=at, x2=at, y1=y.start, y2=y.end, class_="limit"))
        words = f"at most {ms(limits['latency_ms'])}"
        parts.append(label(at - 6, y.start - 8, words, "limit-label", "end"))
    lines = [("limit", limits.get(facts.goal), "at least"), ("teacher", facts.teacher_accuracy, "")]
    for kind, level, words in lines:
        if level is not None:
            at = y(100 * level)
            parts.append(tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_=kind))
            words = f"{words or kind} {percent(level)}"
            parts.append(label(x.end - 4, at - 6, words, f"{kind}-label", "end"))
    return parts


def _baselines(facts: Facts, x: Scale, y: Scale) -> list[str]:
    """Baselines with their names, each at the first height at which it covers no other name."""
    taken, parts = list[tuple[float, float, float]](), list[str]()
    for row in facts.baselines:
        at, level = x(row["latency_ms"]), y(100 * row[facts.goal])
        end = at > (x.start + x.end) / 2
        wide = LETTER * len(row["name"]) + 6
        left, right = (at + 6 - wide, at + 6) if end else (at - 6, at - 6 + wide)
        heights = [level - 10 - LINE * i for i in range(len(facts.baselines))]
        free = (
            h
            for h in heights
            if not any(abs(h - o) < LINE and left < b and a < right for o, a, b in taken)
        )
        height = next(free, level - 10)
        taken.append((height, left, right))
        parts.append(_baseline(row, facts.goal, x, y, height))
    return parts


def _baseline(row: Mapping[str, Any], goal: str, x: Scale, y: Scale, height: float) -> str:
    """A baseline as a square, with its name at a height."""
    at, level = x(row["latency_ms"]), y(100 * row[goal])
    words = f"{row['name']}, {row['runtime']}\n{interval(row, goal)}\n{ms(row['latency_ms'])}, "
    words += mb(row["size_mb"])
    square = tag(
        "rect",
        x=at - 5,
        y=level - 5,
        width=10,
        height=10,
        class_="baseline",
        data_tip=words,
    )
    end = at > (x.start + x.end) / 2
    return square + label(
        at + (6 if end else -6),
        height,  # above its square, as the words of a limit stand on the axis
        row["name"],
        "baseline-label",
        "end" if end else "start",
    )


def _model(facts: Facts, manifest: Manifest, x: Scale, y: Scale, anchor: str) -> str:
    """A delivered model, with its interval and a thin line from the search's estimate.

    Its letter is on the right, or with the anchor "end" on the left.
    """
    m, promised, letter = manifest.figures, manifest.promised, facts.letter(manifest.key)
    low_now, share_now, high_now = m.interval(facts.goal)
    at, level = x(m.calibrated_ms), y(100 * share_now)
    known = "predicted" if manifest.is_predicted else "measured"
    words = f"{letter}: {manifest.key}, {manifest.state}\n"
    words += f"{share(m, facts.goal)} on the validation split\n"
    words += f"{latency(m)}, {mb(m.size_mb)} as {known}\n"
    words += in_words(facts.candidates[manifest.key])
    before = x(promised.predicted_ms), y(100 * promised.interval(facts.goal)[1])
    low, high = y(100 * low_now), y(100 * high_now)
    return "".join(
        [
            path([before, (at, level)], "step"),
            tag("line", x1=at, x2=at, y1=low, y2=high, class_="whisker"),
            tag(
                "path",
                d=f"M{at:.1f} {level - 9:.1f}l9 9l-9 9l-9 -9z",
                class_="model" if manifest.verified else "model unverified",
                data_tip=words,
                tabindex=0,
            ),
            label(at + (9 if anchor == "start" else -9), level - 8, letter, "letter", anchor),
        ]
    )
