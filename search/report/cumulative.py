"""Cumulative: what each stage changed, in the order in which they were applied to one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..delivery.manifest import SEARCHED
from ..pareto.objectives import spelled
from .facts import Facts
from .markup import table, tag, text

STAGES = ("original", "float32", "float16", "int8")  # of the ladder, of the same trained weights


class Stage(NamedTuple):
    """One stage beside the one before it, and beside the first.

    Attributes:
        name: of its row.
        latency: of that of the stage before.
        latency_so_far: of that of the first stage.
        size: of that of the stage before.
        memory: of that of the stage before.
        accuracy: change since the stage before, of the accuracy that the run goes by.
        accuracy_so_far: change since the first stage.
    """

    name: str
    latency: float
    latency_so_far: float
    size: float
    memory: float
    accuracy: float
    accuracy_so_far: float


def stages(rows: Sequence[Mapping[str, Any]], goal: str) -> list[Stage]:
    """Stages from the original to the most accurate searched model.

    A precision that made nothing faster is no stage: the next one follows from the one before.

    Args:
        rows: of the ladder, timed side by side.
        goal: name of the accuracy that the run goes by.
    """
    rows = [row for row in rows if not row.get("rewrite")]
    by_name = {row["name"]: row for row in rows}
    searched = [row for row in rows if row["name"].startswith(SEARCHED)]
    best = max(searched, key=lambda row: row[goal], default=None)
    chain = [by_name[name] for name in STAGES if name in by_name]
    kept = chain[:2]  # the original, and exported whatever that is worth
    for row in chain[2:]:
        if row["latency_ms"] < kept[-1]["latency_ms"]:
            kept.append(row)
    kept += [best] if best else []
    if len(kept) < 2:
        return []
    return [
        Stage(
            now["name"],
            *(_ratio(now, other, "latency_ms") for other in (before, kept[0])),
            *(_ratio(now, before, name) for name in ("size_mb", "peak_memory_mb")),
            *(now[goal] - other[goal] for other in (before, kept[0])),
        )
        for before, now in pairwise(kept)
    ]


def cumulative(facts: Facts) -> list[str]:
    """What each stage made of a model as a table; nothing if none were measured."""
    found = stages(facts.ladder, facts.goal)
    if not found:
        return []
    words = (
        "Each row beside the one before, and in brackets beside the original: first the same "
        "weights exported and in fewer bits, where that made them faster, then the most accurate "
        "searched model."
    )
    header = ("stage", "latency", "size", "memory", spelled(facts.goal))
    rows = [
        [
            text(facts.shown_as(s.name)),
            f"{s.latency:.2f}x ({s.latency_so_far:.2f}x)",
            f"{s.size:.2f}x",
            f"{s.memory:.2f}x",
            f"{100 * s.accuracy:+.1f} points ({100 * s.accuracy_so_far:+.1f})",
        ]
        for s in found
    ]
    return [tag("h2", "Stage by stage"), tag("p", words, class_="note"), table(header, rows)]


def _ratio(now: Mapping[str, Any], before: Mapping[str, Any], name: str) -> float:
    return now[name] / before[name] if before[name] else float("nan")
