"""Picture: how scores and stand-alone accuracies order the same candidates."""

from __future__ import annotations

import io
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from ..pareto.objectives import spelled


def scatter(figures: Mapping[str, Any]) -> bytes:
    """Draw a proxy check as PNG: score against accuracy, with bars over the range of seeds.

    Args:
        figures: from `proxy_check.check_proxy`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(7, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    candidates, share = figures["candidates"], spelled(figures.get("goal", "accuracy"))
    x = [100 * c["score"] for c in candidates]
    y = [100 * c["accuracy"] for c in candidates]
    lows = [100 * (c["accuracy"] - min(c["by_seed"])) for c in candidates]
    highs = [100 * (max(c["by_seed"]) - c["accuracy"]) for c in candidates]
    axes.errorbar(x, y, (lows, highs), fmt="none", ecolor="0.7", linewidth=1, zorder=1)
    dots = axes.scatter(x, y, c=[c["macs"] / 1e6 for c in candidates], norm="log", zorder=2)
    plain = LogFormatter(minor_thresholds=(2, 0.4))
    bar = figure.colorbar(dots, label="million MACs", format=plain)
    bar.ax.yaxis.set_minor_formatter(plain)
    trained = "finished" if "assembled" in figures else "trained alone"
    scored = "scored, search split"
    if figures.get("forecast", {}).get("refreshed_by") == 0 and "assembled" in figures:
        # They are of the same split and length, so that points on the line are right.
        scored = "forecast"
        axes.axline((fmean(y), fmean(y)), slope=1, color="0.8", linewidth=1, zorder=0)
    axes.set_xlabel(f"{share} as {scored}, %")
    axes.set_ylabel(f"{share} when {trained}, validation split, %")
    best = figures["best_baseline"]
    tau, simple = figures["kendall_tau"], figures["baselines"][best]["kendall_tau"]
    ceiling = figures["noise_ceiling"]
    limit = "" if ceiling is None else f", seeds allow {ceiling:.2f}"
    axes.set_title(
        f"{figures['space']}: Kendall's tau {tau:.2f} over {figures['n']} candidates\n"
        f"({best} alone {simple:.2f}{limit})",
        fontsize=10,
        parse_math=False,  # names are no formulas
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
