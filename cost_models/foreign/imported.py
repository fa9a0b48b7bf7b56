"""Imported: a foreign table with its findings, and the predictors that are fitted to it.

A table is checked first; steps in the speed of its machine are divided out. Where its rows have
coordinates each group gets a predictor, tested on rows that it has not seen; where it has several
devices, each is also predicted from the others and a few of its own rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError
from ..predict.error_figures import mape
from ..predict.regressor import Regressor
from . import drift
from .table_checks import Finding, check_table, without_steps
from .tables import ForeignTable
from .transfer import farthest, transfer

FORMAT = "vitpareto imported costs"
VERSION = 1
LEARNED = 300  # rows behind a predictor, at most half of a group
TESTED = 500  # rows that test it, at most
FEW = 10  # measurements from which a device is predicted with the others
FEWEST = 2 * FEW  # rows of a group of which anything is said
_MOST_OPTIONS = 20  # of a part of an architecture that is written in a key

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Imported:
    """A table with the results of checking and fitting it.

    Attributes:
        table: with steps of speed divided out.
        findings: what is wrong with it as it was read.
        steps: device -> largest step in its speed, relative; only where there is one.
        predictors: device -> group -> its predictor.
        errors: device -> group -> mean error on other rows, in percent.
        from_others: device -> mean error from other devices and `FEW` rows a group, in percent.
    """

    table: ForeignTable
    findings: list[Finding]
    steps: Mapping[str, float]
    predictors: Mapping[str, Mapping[str, Regressor]]
    errors: Mapping[str, Mapping[str, float]]
    from_others: Mapping[str, float]

    def facts(self) -> dict[str, Any]:
        """All figures, without the table and the predictors."""
        table = self.table
        return {
            "source": table.source,
            "rows": len(table),
            "findings": [asdict(finding) for finding in self.findings],
            "devices": {
                device: {
                    "rows": int(np.isfinite(ms).sum()),
                    "noise": _percent(table.spread.get(device)),
                    "largest_step": self.steps.get(device, 0.0),
                    "errors": dict(self.errors[device]),
                    "from_others": self.from_others.get(device),
                }
                for device, ms in table.ms.items()
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the figures, the latencies without steps, and the predictors."""
        data: dict[str, Any] = {"format": FORMAT, "version": VERSION, **self.facts()}
        for device, ms in self.table.ms.items():
            known = [None if np.isnan(value) else float(f"{value:.6g}") for value in ms]
            predictors = {name: r.to_dict() for name, r in self.predictors[device].items()}
            data["devices"][device] |= {"latency_ms": known, "predictors": predictors}
        return data | {"keys": self.table.keys, "groups": self.table.groups}


def fit_table(table: ForeignTable, seed: int = 0) -> Imported:
    """Check a table, divide steps out, fit and test what it allows."""
    findings = check_table(table, _choices(table.keys))
    table = table.measured()
    drifting = {finding.column for finding in findings if finding.check == "drift"}
    steps: dict[str, float] = {}
    flat = dict(table.ms)
    for device in sorted(drifting):
        flat[device], speed = without_steps(table, device)
        steps[device] = drift.size(speed[np.isfinite(speed)])
    table = replace(table, ms=flat)
    predictors: dict[str, dict[str, Regressor]] = {device: {} for device in flat}
    errors: dict[str, dict[str, float]] = {device: {} for device in flat}
    for group in dict.fromkeys(table.groups):
        part = table.of_group(group)
        for device, ms in part.ms.items():
            rows = np.flatnonzero(ms > 0)
            if len(rows) < FEWEST or not any(part.numbers):
                continue
            rows = np.random.default_rng(seed).permutation(rows)
            count = min(LEARNED, len(rows) // 2)
            some, rest = part.rows(rows[:count]), part.rows(rows[count : count + TESTED])
            model = Regressor.fit(some.terms, some.numbers, some.ms[device])
            guess = model.predict(rest.terms, rest.numbers).ms
            predictors[device][group] = model
            errors[device][group] = round(mape(rest.ms[device], guess), 3)
    return Imported(table, findings, steps, predictors, errors, _from_others(table))


def load_imported(path: Path) -> dict[str, Any] | None:
    """Read what `costs import` wrote; None if the file is JSON of something else.

    Raises:
        CostError: it cannot be read, is not JSON, or is of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CostError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CostError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return None
    if data.get("version") != VERSION:
        raise CostError(f"{path}: version must be {VERSION}, got {data.get('version')!r}")
    return data


def _from_others(table: ForeignTable) -> dict[str, float]:
    """Errors of all rows but those that tell; of a device with others that know its rows."""
    errors_of: dict[str, list[Array]] = {device: [] for device in table.ms}
    for group in dict.fromkeys(table.groups):
        ms = np.array(list(table.of_group(group).ms.values()))
        for number, device in enumerate(table.ms):
            mine = ms[number] > 0
            sources = np.delete(ms, number, 0)[:, mine]
            sources = sources[(sources > 0).mean(1) >= 0.7] if mine.any() else sources[:0]
            known = (sources > 0).all(0)
            if not len(sources) or known.sum() < FEWEST:
                continue
            sources, actual = sources[:, known], ms[number][mine][known]
            at = farthest(sources, FEW)
            guess = transfer(sources, at, actual[at])
            errors_of[device].append(np.delete(np.abs(guess / actual - 1), at))
    return {
        device: round(float(np.concatenate(errors).mean()) * 100, 3)
        for device, errors in errors_of.items()
        if errors
    }


def _choices(keys: list[str]) -> Array | None:
    """(rows, options) the parts of which keys are made, where they are written like that."""
    parts = [[part for part in re.split(r"[-|+]+", key) if part] for key in keys]
    if len({len(row) for row in parts}) != 1 or len(parts[0]) < 2:
        return None
    columns = [sorted(set(column)) for column in zip(*parts, strict=True)]
    if max(map(len, columns)) > _MOST_OPTIONS:
        return None
    return np.array(
        [
            [float(part == option) for part, options in zip(row, columns, strict=True)
             for option in options]
            for row in parts
        ]
    )  # fmt: skip


def _percent(spread: Array | None) -> float | None:
    known = [] if spread is None else spread[np.isfinite(spread)]
    return round(float(np.mean(known)) * 100, 3) if len(known) else None
