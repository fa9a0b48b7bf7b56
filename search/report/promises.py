"""Promises: what was promised of delivered models before they were made, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

from ...cost_models.tables.anchors import speed_words
from ..counted import counted
from ..delivery.claims import plain
from ..delivery.manifest import Manifest
from ..pareto.objectives import spelled
from ..scoring.forecast_errors import interval_90
from .facts import Facts
from .markup import tag, text
from .scale import Scale
from .svg import NARROW, both, label, picture
from .words import latency, ms, percent, share

SLIGHT = 0.02  # bias of predictions up to which it is not mentioned


class Row(NamedTuple):
    """A model in a chart.

    Attributes:
        letter: of the model.
        low: lower end of what was promised.
        promised: value.
        high: upper end.
        found: what it became.
        tip: words about it.
        words: the shortest of them.
    """

    letter: str
    low: float
    promised: float
    high: float
    found: float
    tip: str
    words: str


def promises(facts: Facts) -> list[str]:
    """Measured latencies in their promised intervals, and accuracies in those forecast."""
    if not facts.measured:
        return []
    return [*_latencies(facts), *_accuracies(facts)]


def _latencies(facts: Facts) -> list[str]:
    inside = sum(m.inside_interval for m in facts.measured)
    caption = (
        "The band is what was promised before the model was trained: the cost model's 90% "
        "interval, around what the untrained graph took if it was measured. The circle is what "
        f"the model takes: {inside} of {len(facts.measured)} lie inside."
    )
    bias = median(m.promised.latency_ms / m.promised.predicted_ms for m in facts.measured)
    if abs(bias - 1) > SLIGHT:
        slower = "slower" if bias > 1 else "faster"
        caption += (
            f" Half of them are {abs(bias - 1):.0%} {slower} than the search saw them, or more."
        )
    ran = [m for m in facts.measured if speed_words(m.measured().speed)]
    if ran:
        speeds = (f"{facts.letter(m.key)} {speed_words(m.measured().speed)}" for m in ran)
        caption += f" The machine ran {', '.join(speeds)}; circles are where they would be at it."
    draw = partial(
        band_chart,
        [_latency(facts, m) for m in facts.measured],
        lambda tick: f"{tick:+g}%" if tick else "0",
        ("Measured against promised latency", "measured latency beside the promise"),
    )
    return [
        tag("h2", "Latency: promised and measured"),
        tag("figure", both(draw), tag("figcaption", text(caption))),
    ]


def _accuracies(facts: Facts) -> list[str]:
    """Nothing of models that no search has forecast."""
    finished = [m for m in facts.measured if m.as_forecast]
    if not finished or not facts.config.forecast.candidates:
        return []
    name = spelled(facts.goal)
    rows = [_accuracy(facts, m) for m in finished]
    inside = sum(row.low <= row.found <= row.high for row in rows)
    caption = (
        f"The band is the 90% interval of the {name} that the search forecast, its mark the "
        "forecast. The circle is what the finished model has on the validation split: "
        f"{inside} of {len(rows)} lie inside."
    )
    if not facts.folder.whole_trainings.exists():
        steps, passes = facts.config.forecast.steps, facts.config.finish.epochs
        caption += (
            f" Forecasts are of short trainings, of {counted(steps, 'step')}; finished models were "
            f"trained for up to {counted(passes, 'pass/passes')}, which makes most of them better."
        )
    words = (f"Finished against forecast {name}", f"{name} on the validation split, %")
    draw = partial(band_chart, rows, lambda tick: f"{tick:g}", words)
    return [
        tag("h2", f"{name.capitalize()}: forecast and finished"),
        tag("figure", both(draw), tag("figcaption", text(caption))),
    ]


def _latency(facts: Facts, m: Manifest) -> Row:
    """Relative to the promise, so that fast and slow models compare, at the calibrated speed."""
    promised, measured, letter = m.promised, m.measured(), facts.letter(m.key)
    ends = promised.low_ms, promised.latency_ms, promised.high_ms, measured.calibrated_ms
    low, middle, high, found = (100 * (end / promised.latency_ms - 1) for end in ends)
    tip = f"{letter}: {m.key}\n{latency(measured)} measured\n{ms(promised.latency_ms)} promised, "
    tip += f"90% interval {ms(promised.low_ms)} to {ms(promised.high_ms)}\n"
    tip += f"{ms(promised.predicted_ms)} predicted by the search"
    words = f"{ms(measured.calibrated_ms)}, {ms(promised.latency_ms)} promised"
    return Row(letter, low, middle, high, found, tip, words)


def _accuracy(facts: Facts, m: Manifest) -> Row:
    told, letter = plain(m.promised), facts.letter(m.key)
    low, high = interval_90(told, facts.goal)
    promised, found = told[facts.goal], m.measured().interval(facts.goal)[1]
    tip = f"{letter}: {m.key}\n{share(m.measured(), facts.goal)} finished\n"
    tip += f"{percent(promised)} forecast, 90% interval {percent(low)} to {percent(high)}"
    words = f"{percent(found)}, {percent(promised)} forecast"
    return Row(letter, 100 * low, 100 * promised, 100 * high, 100 * found, tip, words)


def band_chart(
    rows: Sequence[Row], written: Callable[[float], str], words: tuple[str, str], width: int
) -> str:
    """Draw what was found of each model in the band of what was promised.

    Args:
        rows: models.
        written: a value on the axis.
        words: title of the picture, and what the axis shows.
        width: of the picture.
    """
    left, height = 40, 34 * len(rows) + 60
    right = width - (240 if width > NARROW else 16)
    x = Scale.around([end for row in rows for end in row[1:5]], left, right, log=False)
    parts: list[str] = []
    for tick in x.ticks(max(3, (right - left) // 100)):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=8, y2=height - 46, class_="grid"))
        parts.append(label(x(tick), height - 28, written(tick), "tick", "middle"))
    parts.append(label(right, height - 8, words[1], "axis", "end"))
    for i, row in enumerate(rows):
        middle, at = 26 + 34 * i, x(row.promised)
        low, high, tip = x(row.low), x(row.high), row.tip
        kind = "model" if row.low <= row.found <= row.high else "model unverified"
        parts += [
            label(left - 20, middle + 5, row.letter, "letter", "middle"),
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
            tag("line", x1=at, x2=at, y1=middle - 9, y2=middle + 9, class_="promise"),
            tag("circle", cx=x(row.found), cy=middle, r=6, class_=kind, data_tip=tip, tabindex=0),
        ]
        if width > NARROW:
            parts.append(label(right + 16, middle + 5, row.words, "tick"))
    return picture(width, height, words[0], *parts)
