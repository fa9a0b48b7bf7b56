"""Picture: the front as a PNG, where there is no browser."""

from __future__ import annotations

import io
from typing import Any

from ..pareto.objectives import spelled
from .facts import Facts

INK, SOFT, ACCENT, BAD = "#22262b", "#8a919b", "#c8500b", "#b3261e"
CROWDED = 1.08  # ratio of latencies below which two letters would overlap


def front_png(*sides: Facts) -> bytes:
    """Draw accuracy against latency, of several devices side by side.

    Args:
        sides: facts of a run, of several devices those of each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 * len(sides), 5.4), dpi=110, layout="constrained")
    for i, facts in enumerate(sides, 1):
        axes = figure.add_subplot(1, len(sides), i)
        if len(sides) > 1:
            axes.set_title(facts.config.device_label, color=INK)
        _draw(facts, figure, axes)
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
    for row in facts.baselines:  # mostly slow, so there is room for names on the left
        at, offset = (row["latency_ms"], 100 * row[facts.goal]), (-8, -3)
        axes.plot(*at, "s", color=SOFT, markerfacecolor="white", markersize=7)
        axes.annotate(
            row["name"], at, offset, textcoords="offset points", ha="right", color=SOFT, fontsize=8
        )
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
    latencies = [m.figures.calibrated_ms for m in facts.shown_models]
    for i, m in enumerate(facts.shown_models):
        crowded = i + 1 < len(latencies) and latencies[i + 1] < CROWDED * latencies[i]
        at, offset = (
            (latencies[i], 100 * m.figures.interval(facts.goal)[1]),
            (-16 if crowded else 7, 4),
        )
        letter = facts.letter(m.key)
        axes.annotate(letter, at, offset, textcoords="offset points", color=ACCENT, weight="bold")
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
