"""Picture: the front as a PNG, where there is no browser."""

from __future__ import annotations

import io
from typing import Any

from ..pareto.objectives import spelled
from .facts import Facts
from .labels import around, corners, mark, put, walls

INK, SOFT, ACCENT, BAD = "#22262b", "#8a919b", "#c8500b", "#b3261e"
LETTER, LINE = 7.0, 13.0  # pixels of a letter in a name, and of a line


def front_png(*sides: Facts) -> bytes:
    """Draw accuracy against latency, of several devices side by side.

    Args:
        sides: facts of a run, of several devices those of each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 * len(sides), 5.4), dpi=110, layout="constrained")
    shown = [(facts, figure.add_subplot(1, len(sides), i)) for i, facts in enumerate(sides, 1)]
    for facts, axes in shown:
        if len(sides) > 1:
            axes.set_title(facts.config.device_label, color=INK, parse_math=False)
        _draw(facts, figure, axes)
    figure.draw_without_rendering()  # settles where everything is ...
    figure.set_layout_engine("none")  # ... once, as the layout takes most of the time
    for facts, axes in shown:
        _name(facts, figure, axes)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _draw(facts: Facts, figure: Any, axes: Any) -> None:
    """Draw scored candidates, their front, delivered models and baselines.

    Latencies of delivered models are at the speed of the calibration.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    scored = facts.shown
    if scored:
        spots = axes.scatter(
            [e.metrics["latency_ms"] for e in scored],
            [100 * e.metrics[facts.goal] for e in scored],
            c=[e.metrics["size_mb"] for e in scored],
            s=16,
            alpha=0.7,
            linewidths=0,
            cmap="Blues",
            vmin=-0.3 * max(e.metrics["size_mb"] for e in scored),
            label="scored: estimated accuracy, predicted latency",
        )
        bar = figure.colorbar(spots, label="size, MB", pad=0.01)
        bar.ax.set_ylim(bottom=0)
        bar.outline.set_visible(False)
    axes.step(
        [e.metrics["latency_ms"] for e in facts.line],
        [100 * e.metrics[facts.goal] for e in facts.line],
        where="post",
        color=SOFT,
        linewidth=1,
        label="their front",
    )
    for row in facts.baselines:
        at = (row["latency_ms"], 100 * row[facts.goal])
        axes.plot(*at, "s", color=SOFT, markerfacecolor="white", markersize=7)
    for state in dict.fromkeys(m.state for m in facts.shown_models):
        face = ACCENT if state.startswith("verified") else "white"
        chosen = [m.figures for m in facts.shown_models if m.state == state]
        shares = [m.interval(facts.goal) for m in chosen]
        if chosen:
            axes.errorbar(
                [m.calibrated_ms for m in chosen],
                [100 * share for _, share, _ in shares],
                [
                    [100 * (share - low) for low, share, _ in shares],
                    [100 * (high - share) for _, share, high in shares],
                ],
                fmt="D",
                color=ACCENT,
                markerfacecolor=face,
                markersize=8,
                elinewidth=1,
                label=f"delivered: {state}, accuracy on the validation split",
            )
    for name, limit in facts.config.search.limits.items():
        if name == "latency_ms":
            axes.axvline(limit, color=BAD, linestyle="--", linewidth=1, label="limit")
        elif name == facts.goal:
            axes.axhline(100 * limit, color=BAD, linestyle="--", linewidth=1, label="limit")
    if facts.teacher_accuracy is not None:
        axes.axhline(100 * facts.teacher_accuracy, color=SOFT, linestyle=":", label="teacher")
    axes.set(xscale="log", xlabel="latency, ms", ylabel=f"{spelled(facts.goal)}, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", colors=INK, length=0)
    axes.grid(alpha=0.25, linewidth=0.7)
    axes.spines[:].set_visible(False)
    axes.legend(loc="lower right", fontsize=8, framealpha=0.85, edgecolor="none")


def _name(facts: Facts, figure: Any, axes: Any) -> None:
    """Write the letters of models and the names of baselines, each where it covers no other."""
    models, baselines = facts.shown_models, facts.baselines
    names = [facts.letter(m.key) for m in models] + [row["name"] for row in baselines]
    at = [(m.figures.calibrated_ms, 100 * m.figures.interval(facts.goal)[1]) for m in models]
    at += [(row["latency_ms"], 100 * row[facts.goal]) for row in baselines]
    if not at:
        return
    height = figure.bbox.height
    spots = [(float(x), float(height - y)) for x, y in axes.transData.transform(at)]
    taken = [*walls(figure.bbox.width, height), *(mark(*spot, 8) for spot in spots)]
    for i, (name, (x, y)) in enumerate(zip(names, spots, strict=True)):
        is_model = i < len(models)
        middle = (axes.bbox.x0 + axes.bbox.x1) / 2
        anchor = "end" if x > middle and not is_model else "start"
        beside = corners(x, y) if is_model else around(x, y, 6, anchor)
        spot = put(name, beside, taken, LETTER, LINE)
        axes.annotate(
            name,
            axes.transData.inverted().transform((spot.x, height - spot.y)),
            ha="right" if spot.anchor == "end" else "left",
            color=ACCENT if is_model else SOFT,
            weight="bold" if is_model else "normal",
            fontsize=10 if is_model else 8,
        )
