"""Scatter: what the search has scored so far, and the front of it, as a picture that grows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..config import RunConfig, load_config
from ..pareto.objectives import Objective, pareto_front, spelled
from ..report.front import LOWEST, POINTS
from ..report.markup import tag, text
from ..report.scale import Scale
from ..report.svg import NARROW, both, frame, path, picture, steps
from ..report.words import in_words, ms, percent
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import read_evaluations
from ..store.run_folder import RunPaths


def scatter(paths: RunPaths) -> str:
    """Markup of the scored candidates; empty while there is none."""
    if not paths.evaluations.is_file():
        return ""
    changed = paths.evaluations.stat()
    return _drawn(paths.path, changed.st_mtime_ns, changed.st_size)


@lru_cache(maxsize=1)
def _drawn(folder: Path, changed: int, size: int) -> str:
    """The picture of a log at one moment."""
    paths = RunPaths(folder)
    scored, _ = read_evaluations(paths.evaluations)
    complete = [e for e in scored if e.status == "complete"]
    if not complete:
        return ""
    config = load_config(paths.config)
    return "".join(_of_device(complete, config, name) for name in config.by_device)


def _of_device(scored: Sequence[Evaluation], config: RunConfig, device: str) -> str:
    """The picture of one device."""
    complete, search = [e.on(device) for e in scored], config.on(device).search
    within = pareto_front(complete, search.resolve())
    plane = Objective("latency_ms"), Objective(search.goal)
    best = sorted(pareto_front(within, plane), key=lambda e: e.metrics["latency_ms"])
    words = f"On {device}: " if device else ""
    words += (
        f"{len(complete):,} candidates scored, each a dot; the stair joins the best of those "
        "within all limits. Accuracy as the search forecasts it, latency as the cost model "
        "predicts it; finished models are measured."
    )
    chart = both(lambda width: _chart(complete, best, search.goal, width))
    return tag("figure", chart, tag("figcaption", text(words)))


def _chart(scored: Sequence[Evaluation], best: Sequence[Evaluation], goal: str, width: int) -> str:
    height = 420 if width > NARROW else 330
    shares = [e.metrics[goal] for e in scored]
    low = float(np.quantile(shares, LOWEST))
    levels = [100 * a for a in (low, max(shares), *(e.metrics[goal] for e in best))]
    x = Scale.around([e.metrics["latency_ms"] for e in scored], 52, width - 16)
    y = Scale.around(levels, height - 48, 30, log=False)
    y = Scale(max(0.0, y.low), min(100.5, y.high), y.start, y.end)
    front = {e.key for e in best}
    rest = [e for e in scored if e.key not in front]
    parts = [frame(x, y, "latency, ms", f"{spelled(goal)}, %")]
    parts += [_dot(e, goal, x, y, "dot s2") for e in rest[:: -(-len(rest) // POINTS) or 1]]
    if best:
        corners = [(x(e.metrics["latency_ms"]), y(100 * e.metrics[goal])) for e in best]
        parts.append(path(steps(corners), "front"))
    parts += [_dot(e, goal, x, y, "dot on-front s3") for e in best]
    return picture(width, height, f"{spelled(goal).capitalize()} against latency", *parts)


def _dot(e: Evaluation, goal: str, x: Scale, y: Scale, kind: str) -> str:
    latency, share = e.metrics["latency_ms"], e.metrics[goal]
    words = f"{percent(share)} forecast, {ms(latency)} predicted\n{in_words(e.candidate)}"
    radius = 5 if "front" in kind else 3.5
    return tag("circle", cx=x(latency), cy=y(100 * share), r=radius, class_=kind, data_tip=words)
