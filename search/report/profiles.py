"""Profiles: where the time and the memory of delivered models go, if they were looked into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facts import Facts
from .markup import table, tag, text
from .words import mb, ms

SHOWN = 4  # kinds of operators that are named
HEADER = (
    *("model", "latency", "accounted", "operators, by their time", "the block to change first"),
    *("bound by", "activations", "sharing memory", "in the best order"),
)


def profiles(facts: Facts) -> list[str]:
    """A row for each delivered model; nothing where none was looked into."""
    letters = {manifest.key: facts.letter(manifest.key) for manifest in facts.delivered}
    shown = [row for row in facts.profiles if row["key"] in letters]
    if not shown:
        return []
    devices = ", ".join(dict.fromkeys(row["device"] for row in shown))
    words = (
        f"Measured on {devices} kernel by kernel, with the profiler of the runtime; accounted is "
        "the share of the latency that is seen in them. A block is bound by computing or by "
        "moving bytes where that takes at least half of its time at the fastest that this machine "
        "was seen to do, else by overhead. Activations: the memory of all together, of those that "
        "live at the same time, and of these in the order of kernels that needs the least."
    )
    rows = [[text(letters[row["key"]]), *_cells(row)] for row in shown]
    return [
        tag("h2", "Where time and memory go"),
        tag("p", text(words), class_="note"),
        table(HEADER, rows, wrap=3),
    ]


def _cells(row: Mapping[str, Any]) -> list[str]:
    kinds = row["operator_classes"][:SHOWN]
    block = max(row["sub_blocks"], key=lambda b: b["ms"])
    total = sum(b["ms"] for b in row["sub_blocks"]) or 1.0
    peak = row["peak_mb"]
    return [
        ms(row["latency_ms"]),
        f"{row['accounted']:.0%}",
        text(", ".join(f"{kind['share']:.0%} {kind['name']}" for kind in kinds)),
        text(f"{block['name']} ({block['variant']}), {block['ms'] / total:.0%} of the blocks"),
        text(block["bound"]),
        *(mb(peak[name]) for name in ("naive", "reused", "reordered")),
    ]
