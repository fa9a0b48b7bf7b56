"""Table checks: signs that a table of latencies is not what it claims to be.

Each check looks for something that occurs in published tables: columns rounded to whole
milliseconds, the same device twice, sums of parts given out as measurements, steps in the
machine's speed, one key measured twice with different results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..predict.regressor import matrix_of, nnls
from . import drift
from .tables import ForeignTable

Array = NDArray[np.float64]
SAME = 0.999  # correlation of two columns above which they are one device
CLOSE = 0.01  # median ratio within which they are
EXACT = 1e-4  # relative residual below which numbers are sums, not measurements
REPEAT = 0.1  # by how much a key may change between two measurements
FEW = 0.05  # distinct values as a share of the rows


@dataclass(frozen=True)
class Finding:
    """One defect of a table.

    Attributes:
        check: rounded, constant, negative, duplicate, additive, drift or repeated.
        column: device or devices.
        detail: what was seen, in words.
    """

    check: str
    column: str
    detail: str


def check_table(table: ForeignTable, parts: Array | None = None) -> list[Finding]:
    """All findings about a table.

    Args:
        table: what was imported.
        parts: (rows, choices) one-hot architecture choices, to see whether latencies are sums
            of per-choice constants.
    """
    findings: list[Finding] = []
    measured = table.measured()
    ordered = bool(table.spread) and bool(table.numbers) and bool(table.numbers[0])
    for device, values in measured.ms.items():
        given, known = table.ms[device], np.flatnonzero(np.isfinite(values))
        findings += _column(device, given[~np.isnan(given)])
        findings += check_repeats([table.keys[i] for i in known], values[known], device)
        if parts is not None and len(known) == len(values):
            findings += _additive(device, values, parts)
        if ordered and len(known):
            findings += _drift(device, measured)
    return findings + _duplicates(measured.ms)


def without_steps(table: ForeignTable, device: str) -> tuple[Array, Array]:
    """Latencies of a device without steps in its speed, and that speed; NaN where it has none."""
    ms = table.ms[device]
    known = np.isfinite(ms)
    terms = matrix_of(table.terms, list(table.terms[0]))[known]

    def expected(latencies: Array) -> Array:
        return terms @ nnls(terms / latencies[:, None], np.ones(len(latencies)))

    flat, speed = np.full_like(ms, np.nan), np.full_like(ms, np.nan)
    flat[known], speed[known] = drift.undrifted(ms[known], expected)
    return flat, speed


def check_repeats(
    keys: Sequence[str], ms: Sequence[float] | Array, column: str = ""
) -> list[Finding]:
    """Findings of keys whose repeated measurements differ too much."""
    levels: dict[str, list[float]] = {}
    for key, value in zip(keys, ms, strict=True):
        levels.setdefault(key, []).append(value)
    ratios = [max(v) / min(v) for v in levels.values() if len(v) > 1]
    if not ratios or float(np.median(ratios)) < 1 + REPEAT:
        return []
    middle = float(np.median(ratios))
    return [Finding("repeated", column, f"{len(ratios)} keys differ by a factor of {middle:.2f}")]


def _column(device: str, values: Array) -> list[Finding]:
    if not len(values):
        return [Finding("constant", device, "has no number at all")]
    if wrong := int(((values <= 0) | np.isinf(values)).sum()):
        detail = f"has {wrong} values at or below 0, or infinite"
        return [Finding("negative", device, detail)]
    distinct = len(np.unique(values))
    if distinct == 1 and len(values) > 1:
        return [Finding("constant", device, f"is {values[0]:g} in every row")]
    whole = float(np.mean(values == np.round(values)))
    if whole > 0.99 and len(values) > 10:
        return [Finding("rounded", device, f"whole milliseconds, {distinct} distinct values")]
    if len(values) > 200 and distinct < FEW * len(values):
        detail = f"only {distinct} distinct values in {len(values)} rows"
        return [Finding("rounded", device, detail)]
    return []


def _duplicates(columns: Mapping[str, Array]) -> list[Finding]:
    findings: list[Finding] = []
    for left, right in combinations(columns, 2):
        both = np.isfinite(columns[left]) & np.isfinite(columns[right])
        if both.sum() < 10:
            continue
        a, b = columns[left][both], columns[right][both]
        if a.std() == 0 or b.std() == 0:
            continue
        r = float(np.corrcoef(a, b)[0, 1])
        ratio = float(np.median(a / b))
        if r > SAME and abs(ratio - 1) < CLOSE:
            detail = f"correlation {r:.4f}, median ratio {ratio:.3f}: as of one device"
            findings.append(Finding("duplicate", f"{left}, {right}", detail))
        elif len(a) > 50 and (shared := float(np.mean(a == b))) > 0.05 and len(np.unique(a)) > 100:
            detail = f"{shared:.0%} of the values are equal to the last digit: copied rows"
            findings.append(Finding("duplicate", f"{left}, {right}", detail))
    return findings


def _additive(device: str, values: Array, parts: Array) -> list[Finding]:
    design = np.column_stack([parts, np.ones(len(parts))])
    weights, *_ = np.linalg.lstsq(design, values, rcond=None)
    residual = float(np.median(np.abs(design @ weights / values - 1)))
    if residual > EXACT:
        return []
    return [Finding("additive", device, f"sums of constants, residual {residual:.1e}")]


def _drift(device: str, table: ForeignTable) -> list[Finding]:
    _, speed = without_steps(table, device)
    known = np.flatnonzero(np.isfinite(speed))
    step = drift.size(speed[known])
    if step < drift.STEP:
        return []
    begins = known[drift.segments(np.log(speed[known]))].tolist()
    detail = f"speed changes by {step:.0%}, at rows {', '.join(map(str, begins[1:6]))}"
    return [Finding("drift", device, detail)]
