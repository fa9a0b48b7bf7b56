"""Choosing: which candidates of a search are measured, and which of these are finished."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..delivery.shortlist import (
    SHORT,
    ShortlistRow,
    corrected,
    error_facts,
    measure_shortlist,
)
from ..loop.nearest_feasible import excess, misses
from ..pareto.by_device import at
from ..pareto.objectives import pareto_front
from ..pareto.subset import dominant
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import read_evaluations
from ..store.atomic_files import read_json, write_json
from .assets import Run
from .refreshing import refresh_of
from .stage import Stage
from .stages import running

log = logging.getLogger("vitpareto")


def scored(run: Run) -> list[Evaluation]:
    """Candidates that could be scored, as the search saw them."""
    evaluations, _ = read_evaluations(run.folder.evaluations)
    return [e for e in evaluations if e.status == "complete"]


def candidates_now(run: Run) -> list[Evaluation]:
    """Candidates as they are forecast once models were delivered, if that was done before."""
    known = scored(run)
    return refresh_of(run.folder, known)(known) if run.folder.finalists.exists() else known


def shortlisted(
    run: Run, known: Sequence[Evaluation], front: Sequence[Evaluation]
) -> list[Evaluation]:
    """Candidates to measure: those that dominate most in the first two objectives.

    More are measured than are delivered. If none keeps the limits, it is the one that misses them
    by the least, which is measured when it is delivered.
    """
    if front:
        return _dominant(run, front, SHORT * run.config.finish.finalists)
    objectives = run.config.search.resolve()
    best = min(known, key=lambda e: excess(e.metrics, objectives))
    log.warning(
        "search: none of %d trials kept the limits; the nearest candidate, %s, has %s; it is "
        "delivered all the same, and marked where it misses them",
        run.config.search.trials,
        best.key,
        misses(best.metrics, objectives) or "what the trials did not find",
    )
    return [best]


def measure_front(run: Run) -> None:
    """Measure the latency of the shortlist on each device, before any of it is trained."""
    known = candidates_now(run)
    front = pareto_front(known, run.config.search.resolve())
    if not front:
        return
    with running(run.folder, Stage.SHORTLIST) as facts:
        for name, rows in _measured(run, shortlisted(run, known, front)).items():
            facts |= {at(figure, name): value for figure, value in error_facts(rows).items()}


def finalists(run: Run) -> list[Evaluation]:
    """Candidates to deliver: the front of the shortlist by measured latency.

    They are chosen once. A run that goes on with other limits, more trials or more finalists
    chooses anew, by forecasts that the models delivered so far have moved.
    """
    if before := chosen_before(run):
        return before
    known = candidates_now(run)
    front = pareto_front(known, run.config.search.resolve())
    chosen = shortlisted(run, known, front)
    if front:
        for name, measured in _measured(run, chosen).items():
            chosen = corrected(chosen, measured, name)
        chosen = _dominant(run, chosen, run.config.finish.finalists)
    rows = [e.to_dict() for e in chosen]
    write_json(run.folder.finalists, {"of": _choice(run), "chosen": rows})
    return chosen


def _measured(run: Run, chosen: Sequence[Evaluation]) -> dict[str, list[ShortlistRow]]:
    """Latencies of candidates on each device by its name, measured now if they were not yet."""
    return {
        name: measure_shortlist(
            [e.on(name) for e in chosen],
            side.ensure_cost_model(),
            side.device,
            side.folder.shortlist,
        )
        for name, side in run.sides.items()
    }


def chosen_before(run: Run) -> list[Evaluation]:
    """Finalists that were chosen after the same search; none if there is something to choose."""
    kept = run.folder.finalists
    if not kept.exists() or (known := read_json(kept))["of"] != _choice(run):
        return []
    return [Evaluation.from_dict(row) for row in known["chosen"]]


def _choice(run: Run) -> dict[str, Any]:
    """What a choice of finalists is made of."""
    config = run.config
    made_of = {"search": config.search.model_dump(mode="json"), "scored": len(scored(run))}
    return made_of | {"finalists": config.finish.finalists}


def _dominant(run: Run, chosen: Sequence[Evaluation], count: int) -> list[Evaluation]:
    """Choose the members of each device's front of its first two objectives that dominate most.

    Of every device as many, of which the same may be good for several.
    """
    by_key, together = {e.key: e for e in chosen}, list[Evaluation]()
    for each in range(count, 0, -1):
        keys = [e.key for side in run.sides.values() for e in _dominant_on(side, chosen, each)]
        together = [by_key[key] for key in dict.fromkeys(keys)]
        if len(together) <= count:
            break
    return together[:count]  # of more devices than are to be chosen those of the first


def _dominant_on(run: Run, chosen: Sequence[Evaluation], count: int) -> list[Evaluation]:
    """Likewise on one device."""
    seen, objectives = [e.on(run.folder.device) for e in chosen], run.config.search.resolve()
    traded = [o for o in objectives if o.traded][:2]
    plane = [replace(o, traded=o in traded) for o in objectives]
    front = pareto_front(seen, plane) or pareto_front(
        seen, [replace(o, limit=None) for o in traded]
    )
    return dominant(front, count, sorted(traded, key=lambda o: not o.maximize))
