"""Shortlist: members of a front are measured before any of them is trained.

A search prefers what its cost model thinks faster than it is, so errors that are even over random
candidates lean to one side on the front (the optimizer's curse, Smith and Winkler, Management
Science 52(3), 2006). What is promised of a finalist is therefore what its own graph took.
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
from ..scoring.evaluation import Evaluation
from ..store.atomic_files import read_json, write_json

SHORT = 4  # times as many are measured as are wanted
LATENCY = ("latency_ms", "low_ms", "high_ms")


@dataclass(frozen=True, slots=True)
class Measured:
    """How a candidate's latency turned out.

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
) -> list[Measured]:
    """Latencies of candidates on their device; none where the model is that of another machine.

    Args:
        chosen: evaluations by the search.
        model: that predicted them.
        device: where they will run.
        kept: file of what was found; none of it is measured again.

    Raises:
        CostError: measuring failed.
    """
    found = [Measured(**row) for row in read_json(kept)] if kept.exists() else []
    known = {row.key for row in found}
    new = [e for e in chosen if e.key not in known]
    if new and fingerprint(model.identity) == fingerprint(device.identity()):
        bench, predicted = Bench(device), {e.key: e.metrics["latency_ms"] for e in new}
        graphs = [replace(bench.network(e.candidate, model.recipes), key=e.key) for e in new]
        found += [
            Measured(key, predicted[key], row.median_ms * row.speed(model.pace))
            for key, row in time_graphs(bench, graphs).items()
        ]
        write_json(kept, [asdict(row) for row in found])
    return found


def corrected(chosen: Sequence[Evaluation], measured: Sequence[Measured]) -> list[Evaluation]:
    """Evaluations with latencies as measured; their intervals keep their relative width."""
    factors = {row.key: row.latency_ms / row.predicted_ms for row in measured}
    return [
        replace(
            e,
            metrics={**e.metrics}
            | {name: e.metrics[name] * factors.get(e.key, 1.0) for name in LATENCY},
        )
        for e in chosen
    ]


def error_facts(measured: Sequence[Measured]) -> dict[str, float]:
    """How far predictions were off, in percent: the median, and how far they lean to one side."""
    if not measured:
        return {}
    logs = np.log([row.latency_ms / row.predicted_ms for row in measured])
    off, lean = (100 * np.expm1([np.median(np.abs(logs)), np.median(logs)])).round(2).tolist()
    return {"measured": len(measured), "median_error": off, "slower_than_predicted": lean}


def time_graphs(bench: Bench, graphs: Sequence[TimedGraph]) -> dict[str, Row]:
    """Latency of graphs by key, timed as the networks of a calibration are.

    As many in turn in one fresh process: what was predicted is what is measured. Of two
    measurements the quieter one counts. What the runtime refuses has no row.

    Raises:
        CostError: measuring failed.
    """
    sets = (graphs[start : start + MODELS] for start in range(0, len(graphs), MODELS))
    rows = [row for chosen in sets for row in bench.time_settled(chosen, ROUNDS)]
    return {row.key: row for row in quietest(rows)}
