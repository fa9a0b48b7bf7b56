"""Rewrites: what it changes to put parts of a model into other operations.

An exact rewrite is worth what it saves. The lossy one beside it is the naive swap that is often
made instead, and shows what that costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..pareto.objectives import spelled
from .facts import Facts
from .markup import table, tag, text


class Change(NamedTuple):
    """A rewritten model beside the model as it was.

    Attributes:
        beside: name of the model as it was.
        name: of the rewrite.
        label: "exact" or "lossy".
        latency: of that of the model as it was.
        accuracy: change of the accuracy that the run goes by.
        moved: size of the change of the logits relative to them.
    """

    beside: str
    name: str
    label: str
    latency: float
    accuracy: float
    moved: float


def changes(rows: Iterable[Mapping[str, Any]], goal: str) -> list[Change]:
    """What each rewrite changed.

    Args:
        rows: of the ladder, timed side by side.
        goal: name of the accuracy that the run goes by.
    """
    by_name = {row["name"]: row for row in rows}
    found: list[Change] = []
    for row in by_name.values():
        if rewrite := row.get("rewrite"):
            before, label = by_name[rewrite["beside"]], "exact" if rewrite["exact"] else "lossy"
            latency = row["latency_ms"] / before["latency_ms"]
            gained = row[goal] - before[goal]
            found.append(
                Change(before["name"], rewrite["name"], label, latency, gained, rewrite["moved"])
            )
    return found


def rewrites(facts: Facts) -> list[str]:
    """Models with parts in other operations as a table; nothing if none were measured."""
    found = changes(facts.ladder, facts.goal)
    if not found:
        return []
    words = (
        "Each alone, beside the model as it was. An exact rewrite leaves the answers as they are "
        "before numbers are rounded to integers; a lossy one is the naive swap in its place."
    )
    header = ("model", "rewrite", "", "latency", spelled(facts.goal), "logits moved by")
    rows = [
        [
            text(facts.shown_as(c.beside)),
            text(c.name),
            c.label,
            f"{c.latency:.2f}x",
            f"{100 * c.accuracy:+.1f} points",
            f"{c.moved:.1e}",
        ]
        for c in found
    ]
    return [
        tag("h2", "With parts in other operations"),
        tag("p", words, class_="note"),
        table(header, rows),
    ]
