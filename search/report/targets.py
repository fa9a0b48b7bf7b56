"""Targets: delivered models in every runtime, where `vitpareto targets` tried them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facts import Facts
from .markup import table, tag, text, yes
from .words import mb, ms, percent

HEADER = (
    *("model", "runtime", "runs", "largest difference", "same answers", "latency", "size"),
    "executed, or what is missing",
)


def targets(facts: Facts) -> list[str]:
    """A table of models by runtime; nothing where it was not made."""
    letters = {manifest.key: facts.letter(manifest.key) for manifest in facts.delivered}
    shown = [row for row in facts.targets if row["key"] in letters]
    if not shown:
        return []
    words = (
        "The same trained networks, stored as each runtime can. Differences are of a logit to ONNX "
        "Runtime's on validation images, and so is the share of the same answers; latencies are of "
        "the machine on which the table was made, of the faster of two sessions each."
    )
    rows = [
        [
            text(letters[row["key"]]),
            text(f"{row['runtime']} {row['version']}".strip()),
            yes(row["runs"]) if row["runs"] is not None else "",
            _known(row["max_abs_difference"], "{:.1e}"),
            percent(row["agreement"]) if row["agreement"] is not None else "",
            _latency(row),
            mb(row["size_mb"]) if row["size_mb"] is not None else "",
            text(row["missing"] or row["precision"]),
        ]
        for row in shown
    ]
    return [
        tag("h2", "In other runtimes"),
        tag("p", text(words), class_="note"),
        table(HEADER, rows, wrap=len(HEADER) - 1),
    ]


def _latency(row: Mapping[str, Any]) -> str:
    if row["predicted_ms"] is not None:
        return f"{ms(row['predicted_ms'])}, predicted"
    return ms(row["latency_ms"]) if row["latency_ms"] is not None else ""


def _known(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
