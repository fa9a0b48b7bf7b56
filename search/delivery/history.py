"""History: what delivered models measured each time that they were verified, a line each time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ...spaces.errors import RunError
from ..store.run_folder import RunPaths
from .manifest import Manifest, now

SLOWER = 1.1  # of the median before, at the speed of the calibration: more is told

History = Sequence[Mapping[str, Any]]


def remember(paths: RunPaths, examined: Sequence[Manifest]) -> None:
    """Add measurements of models to those that were made before.

    Raises:
        RunError: the file cannot be written.
    """
    rows = [{"key": m.key, "at": now(), **m.metrics.row()} for m in examined if m.metrics]
    if not rows:
        return
    path, lines = paths.measurements, "".join(f"{json.dumps(row)}\n" for row in rows)
    try:
        torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a kill
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def read_history(paths: RunPaths) -> dict[str, History]:
    """Measurements of each model by key, the oldest first; lines that a kill cut short are none."""
    found = dict[str, list[Mapping[str, Any]]]()
    lines = paths.measurements.read_text().splitlines() if paths.measurements.exists() else []
    for line in lines:
        try:
            row = json.loads(line)
            found.setdefault(row["key"], []).append(row)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def told(rows: History) -> str:
    """How often a model was measured, and whether it became slower; empty for less than twice.

    >>> told([{"at": "2026-11-30T10:00:00+0000", "latency_ms": ms} for ms in (1.0, 1.1, 1.5)])
    '3 times since 2026-11-30: 1 to 1.5 ms, now 1.5, 1.43 times as long as before'
    """
    if len(rows) < 2:
        return ""
    ms = [row["latency_ms"] for row in rows]
    words = f"{len(rows)} times since {rows[0]['at'][:10]}: "
    words += f"{min(ms):.3g} to {max(ms):.3g} ms, now {ms[-1]:.3g}"
    factor = ms[-1] / median(ms[:-1])
    return words + (f", {factor:.2f} times as long as before" if factor > SLOWER else "")
