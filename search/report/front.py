"""Front: accuracy against latency of scored, delivered and compared models."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..delivery.manifest import Manifest
from ..pareto.objectives import spelled
from ..scoring.evaluation import Evaluation
from .facts import Facts
from .labels import Box, Spot, around, corners, mark, put, walls
from .markup import tag
from .scale import Scale
from .svg import NARROW, diamond, frame, label, path, picture, square, steps
from .words import in_words, interval, latency, mb, ms, percent, share

SIZES = 5  # shades in which sizes are shown
LOWEST = 0.05  # share of the scored candidates that may lie below the plot
POINTS = 1500  # most points that are drawn beside the front


def front_chart(facts: Facts, width: int) -> str:
    """Draw accuracy and latency: scored candidates, their front, delivered models, baselines."""
    height = 520 if width > NARROW else 400
    x, y = _plane(facts, width, height)
    shade, best = shades(facts), {e.key for e in facts.front}
    rest = [e for e in facts.shown if e.key not in best]
    rest = rest[:: -(-len(rest) // POINTS) or 1]
    parts = [frame(x, y, "latency, ms", f"{spelled(facts.goal)}, %"), *_lines(facts, x, y)]
    parts += [_dot(e, facts.goal, x, y, shade(e.metrics), "dot") for e in rest]
    corners = [(x(e.metrics["latency_ms"]), y(100 * e.metrics[facts.goal])) for e in facts.line]
    if corners:
        parts.append(path(steps(corners), "front"))
    parts += [_dot(e, facts.goal, x, y, shade(e.metrics), "dot on-front") for e in facts.front]
    parts += _named(facts, x, y, walls(width, height))
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


def _lines(facts: Facts, x: Scale, y: Scale) -> list[str]:
    """Limits and the teacher, as lines across the plot."""
    parts: list[str] = []
    if "latency_ms" in facts.config.search.limits:
        at = x(facts.config.search.limits["latency_ms"])
        parts.append(tag("line", x1=at, x2=at, y1=y.start, y2=y.end, class_="limit"))
    for kind, level, _ in _levels(facts):
        at = y(100 * level)
        parts.append(tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_=kind))
    return parts


def _levels(facts: Facts) -> list[tuple[str, float, str]]:
    """Accuracies that are lines: class, share, and words."""
    limit, teacher = facts.config.search.limits.get(facts.goal), facts.teacher_accuracy
    levels = [("limit", limit, "at least"), ("teacher", teacher, "teacher")]
    return [
        (kind, level, f"{words} {percent(level)}")
        for kind, level, words in levels
        if level is not None
    ]


def _named(facts: Facts, x: Scale, y: Scale, taken: list[Box]) -> list[str]:
    """Baselines and delivered models, and the names of these and of all lines.

    Names go where no mark and no other name is: letters first, which are beside their models.
    """
    goal, models = facts.goal, facts.shown_models
    squares = [(x(row["latency_ms"]), y(100 * row[goal])) for row in facts.baselines]
    diamonds = [(x(m.figures.calibrated_ms), y(100 * m.figures.interval(goal)[1])) for m in models]
    taken = [*taken, *(mark(*at, 6) for at in squares), *(mark(*at, 7) for at in diamonds)]
    letters = [
        put(facts.letter(m.key), corners(*at), taken, 11, 15)
        for m, at in zip(models, diamonds, strict=True)
    ]
    names: list[str] = []
    limit = facts.config.search.limits.get("latency_ms")
    if limit is not None:
        spot, words = Spot(x(limit) - 6, y.start - 8, "end"), f"at most {ms(limit)}"
        names.append(_name(words, [spot, Spot(x(limit) + 6, y.start - 8, "start")], taken, "limit"))
    middle = (x.start + x.end) / 2
    for row, at in zip(facts.baselines, squares, strict=True):
        spots = around(*at, 6, "end" if at[0] > middle else "start")
        names.append(_name(row["name"], spots, taken, "baseline"))
    for kind, level, words in _levels(facts):
        at = y(100 * level)
        ends = ((x.end - 4, "end"), (x.start + 4, "start"))
        spots = [Spot(end, h, anchor) for end, anchor in ends for h in (at - 6, at + 17)]
        names.append(_name(words, spots, taken, kind))
    return [
        *(_baseline(row, goal, at) for row, at in zip(facts.baselines, squares, strict=True)),
        *names,
        *(
            _model(facts, m, at, x, y) + _letter(facts.letter(m.key), spot)
            for m, at, spot in zip(models, diamonds, letters, strict=True)
        ),
    ]


def _name(words: str, spots: Iterable[Spot], taken: list[Box], kind: str) -> str:
    spot = put(words, spots, taken)
    return label(spot.x, spot.y, words, f"{kind}-label", spot.anchor)


def _letter(letter: str, spot: Spot) -> str:
    return label(spot.x, spot.y, letter, "letter", spot.anchor)


def _baseline(row: Mapping[str, Any], goal: str, at: tuple[float, float]) -> str:
    """A baseline as a square."""
    words = f"{row['name']}, {row['runtime']}\n{interval(row, goal)}\n{ms(row['latency_ms'])}, "
    words += mb(row["size_mb"])
    return square(*at, "baseline", words)


def _model(facts: Facts, manifest: Manifest, place: tuple[float, float], x: Scale, y: Scale) -> str:
    """A delivered model, with its interval and a thin line from the search's estimate."""
    m, promised, letter = manifest.figures, manifest.promised, facts.letter(manifest.key)
    low_now, _, high_now = m.interval(facts.goal)
    at, level = place
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
            diamond(at, level, "model" if manifest.verified else "model unverified", words),
        ]
    )
