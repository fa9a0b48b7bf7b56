"""Shortlist: members of a front are measured before any of them is trained.

A search prefers candidates whose latency is predicted too low, so errors that are unbiased over
random candidates are biased on the front (the optimizer's curse, Smith and Winkler, Management
Science 52(3), 2006). A finalist's promised latency is therefore measured on its own graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ...cost_models import CostModel, Device
from ...cost_models.device import fingerprint
from ...cost_models.measure.bench import MODELS, ROUNDS, Bench, TimedGraph
from ...cost_models.tables.latency_table import Row, quietest
from ...spaces.exits import has_exits
from ..pareto.by_device import at
from ..scoring.evaluation import Evaluation
from ..store.atomic_files import read_json, write_json

SHORT = 4  # candidates that are measured for each one that is wanted
LATENCY = ("latency_ms", "low_ms", "high_ms")


@dataclass(frozen=True, slots=True)
class ShortlistRow:
    """Predicted and measured latency of a candidate.

    Attributes:
        key: of the candidate.
        predicted_ms: by the cost model.
        latency_ms: measured, at the speed that the machine had when it was calibrated.
    """

    key: str
    predicted_ms: float
    latency_ms: float


def measure_shortlist(
    chosen: Sequence[Evaluation], model: CostModel, device: Device, kept: Path
) -> list[ShortlistRow]:
    """Measure candidates on their device; none where the model is of another machine.

    Args:
        chosen: evaluations by the search.
        model: that predicted them.
        device: that will run them.
        kept: file of the rows; candidates in it are not measured again.

    Raises:
        CostError: measuring failed.
    """
    rows = [ShortlistRow(**row) for row in read_json(kept)] if kept.exists() else []
    known = {row.key for row in rows}
    new = [e for e in chosen if e.key not in known]
    if new and fingerprint(model.identity) == fingerprint(device.identity()):
        bench, predicted = Bench(device), {e.key: e.metrics["latency_ms"] for e in new}
        graphs = [replace(bench.network(e.candidate, model.recipes), key=e.key) for e in new]
        ended = [e for e in new if has_exits(e.candidate.architecture)]
        left = {e.key: e.candidate.without_exits() for e in ended}
        whole = model.predict([*left.values()]).latency_ms.tolist()
        # The graph runs to the end: what it says of the whole network holds for its parts.
        share = {key: predicted[key] / ms for key, ms in zip(left, whole, strict=True)}
        rows += [
            ShortlistRow(
                *(key, predicted[key]),
                row.median_ms * row.speed(model.pace) * share.get(key, 1.0),
            )
            for key, row in time_graphs(bench, graphs).items()
        ]
        write_json(kept, [asdict(row) for row in rows])
    return rows


def corrected(
    chosen: Sequence[Evaluation], measured: Sequence[ShortlistRow], device: str = ""
) -> list[Evaluation]:
    """Evaluations with latencies as measured; their intervals keep their relative width.

    Args:
        chosen: evaluations by the search.
        measured: rows of some of them.
        device: on which these were measured, of a run for several.
    """
    factors = {row.key: row.latency_ms / row.predicted_ms for row in measured}
    names = [at(name, device) for name in LATENCY]
    return [
        replace(
            e,
            metrics={**e.metrics}
            | {name: e.metrics[name] * factors.get(e.key, 1.0) for name in names},
        )
        for e in chosen
    ]


def error_facts(measured: Sequence[ShortlistRow]) -> dict[str, float]:
    """Errors of predictions in percent: median size, and median with its sign."""
    if not measured:
        return {}
    logs = np.log([row.latency_ms / row.predicted_ms for row in measured])
    error, bias = (100 * np.expm1([np.median(np.abs(logs)), np.median(logs)])).round(2).tolist()
    return {"measured": len(measured), "median_error": error, "slower_than_predicted": bias}


def time_graphs(bench: Bench, graphs: Sequence[TimedGraph]) -> dict[str, Row]:
    """Time graphs as the networks of a calibration are; rows by key.

    As many are timed in turn in one fresh process, so that measurements compare with predictions.
    Of two measurements the quieter one counts. Graphs that the runtime refuses have no row.

    Raises:
        CostError: measuring failed.
    """
    sets = (graphs[start : start + MODELS] for start in range(0, len(graphs), MODELS))
    rows = [row for chosen in sets for row in bench.time_settled(chosen, ROUNDS)]
    return {row.key: row for row in quietest(rows)}
