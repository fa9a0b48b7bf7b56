"""Rewrites: what it changes to put a model into other bits, or parts of it into other operations.

Weights are often trained for the bits that the search chose place by place, so that other bits may
do better once they are trained for. An exact rewrite is worth what it saves; the lossy one beside
it is the naive swap that is often made instead, and shows what that costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..pareto.objectives import spelled
from .facts import Facts
from .markup import table, tag, text


class Change(NamedTuple):
    """A model in other bits or operations, beside the model as it was.

    Attributes:
        beside: name of the model as it was.
        name: of the rewrite, or of the precision.
        label: "exact" or "lossy"; empty for other bits.
        latency: of that of the model as it was.
        size: of that of the model as it was.
        accuracy: change of the accuracy that the run goes by.
        moved: size of the change of the logits relative to them.
    """

    beside: str
    name: str
    label: str
    latency: float
    size: float
    accuracy: float
    moved: float


def changes(
    rows: Iterable[Mapping[str, Any]], goal: str
) -> tuple[Sequence[Change], Sequence[Change]]:
    """What other bits changed, and what each rewrite did.

    Args:
        rows: of the ladder, timed side by side.
        goal: name of the accuracy that the run goes by.
    """
    by_name = {row["name"]: row for row in rows}
    bits: list[Change] = []
    operations: list[Change] = []
    for row in by_name.values():
        if rewrite := row.get("rewrite"):
            before, exact = by_name[rewrite["beside"]], rewrite["exact"]
            change = Change(
                before["name"],
                rewrite["name"],
                "" if exact is None else "exact" if exact else "lossy",
                latency=row["latency_ms"] / before["latency_ms"],
                size=row["size_mb"] / before["size_mb"],
                accuracy=row[goal] - before[goal],
                moved=rewrite["moved"],
            )
            (bits if exact is None else operations).append(change)
    return bits, operations


def rewrites(facts: Facts) -> list[str]:
    """Models in other bits and with other operations as tables; nothing if none were measured."""
    bits, operations = changes(facts.ladder, facts.goal)
    return [
        *_compared(
            facts,
            bits,
            "In one precision throughout",
            "Each model with the same bits everywhere, beside those that the search chose for each "
            "place. Nothing was trained for it: weights that were trained for the bits of their "
            "place might do better in others after a training of their own.",
        ),
        *_compared(
            facts,
            operations,
            "With parts in other operations",
            "Each alone, beside the model as it was. An exact rewrite leaves the answers as they "
            "are before numbers are rounded to integers; a lossy one is the naive swap in its "
            "place.",
        ),
    ]


def _compared(facts: Facts, found: Sequence[Change], title: str, words: str) -> list[str]:
    if not found:
        return []
    accuracy = spelled(facts.goal)
    header = ("model", "changed to", "", "latency", "size", accuracy, "logits moved by")
    rows = [
        [
            text(facts.shown_as(c.beside)),
            text(c.name),
            c.label,
            f"{c.latency:.2f}x",
            f"{c.size:.2f}x",
            f"{100 * c.accuracy:+.1f} points",
            f"{c.moved:.1e}",
        ]
        for c in found
    ]
    return [tag("h2", title), tag("p", words, class_="note"), table(header, rows)]
