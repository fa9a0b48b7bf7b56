"""History: what delivered models measured each time that they were verified, a line each time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ...spaces.errors import RunError
from ..store.atomic_files import append_synced
from ..store.run_folder import RunPaths
from .manifest import Manifest, now

SLOWER = 1.1  # of the median before: more is told

History = Sequence[Mapping[str, Any]]


def remember(paths: RunPaths, before: Sequence[Manifest], examined: Sequence[Manifest]) -> None:
    """Add measurements of models to those that are known.

    Args:
        paths: of the run.
        before: manifests as they were, whose measurements are kept, too, of a model of which none
            are known: older releases kept only the newest. It is put at the time at which the model
            was made, as nothing says when it was measured.
        examined: manifests with the new measurements. What is equal to the last digit is the same
            measurement, such as that of a kit that is taken in twice.

    Raises:
        RunError: the file cannot be read or written.
    """
    known = read_history(paths)
    rows = [_row(m, m.made) for m in before if m.key not in known and m.metrics]
    newest = {row["key"]: row for row in (*(h[-1] for h in known.values()), *rows)}
    rows += [
        _row(m, now())
        for m in examined
        if m.metrics and not newest.get(m.key, {}).items() >= m.metrics.row().items()
    ]
    if not rows:
        return
    path, lines = paths.measurements, "".join(f"{json.dumps(row)}\n" for row in rows)
    torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a kill
    append_synced(path, "\n" * torn + lines)


def read_history(paths: RunPaths) -> Mapping[str, History]:
    """Measurements of each model by key, the oldest first; latencies at the calibrated speed.

    Lines that a kill cut short are passed over.

    Raises:
        RunError: the file cannot be read.
    """
    path, found = paths.measurements, dict[str, list[Mapping[str, Any]]]()
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    for line in lines:
        try:
            row = json.loads(line)
            known = isinstance(row["key"], str) and isinstance(row["at"], str)
            known = known and row["latency_ms"] > 0
        except (ValueError, KeyError, TypeError):
            continue
        if known:
            found.setdefault(row["key"], []).append(row)
    return found


def history_words(history: History) -> str:
    """How often a model was measured, and whether it became slower; empty for less than twice.

    >>> history_words([{"at": "2026-11-30T10:00:00", "latency_ms": ms} for ms in (1.0, 1.1, 1.5)])
    '3 times since 2026-11-30: 1 to 1.5 ms, the last 1.5, 1.43 times the median before'
    """
    if len(history) < 2:
        return ""
    ms = [row["latency_ms"] for row in history]
    words = f"{len(history)} times since {history[0]['at'][:10]}: "
    words += f"{min(ms):.3g} to {max(ms):.3g} ms, the last {ms[-1]:.3g}"
    factor = ms[-1] / median(ms[:-1])
    return words + (f", {factor:.2f} times the median before" if factor > SLOWER else "")


def _row(manifest: Manifest, at: str) -> dict[str, Any]:
    return {"key": manifest.key, "at": at, **manifest.measured().row()}
