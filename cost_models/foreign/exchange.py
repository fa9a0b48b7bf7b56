"""Exchange: cost models for other tools, as tables they can read and vectors they can test with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from math import exp
from statistics import fmean
from typing import Any

from ...spaces import Candidate
from ..predict.model import CostModel
from ..tables.latency_table import LatencyTable, Row
from ..units.precision_recipes import kernel_recipe, recipe_for
from ..units.sub_block import SubBlock
from ..units.unit import parse_unit, unit_of
from ..units.workload import workload

_TENTH = 1.2816  # standard deviations from the middle to the tenth percentile


def blocks_of(candidates: Iterable[Candidate]) -> list[SubBlock]:
    """Different sub-blocks of candidates."""
    every = (block for candidate in candidates for block in workload(candidate).sub_blocks)
    return list(dict.fromkeys(every))


def predicted_table(model: CostModel, blocks: Sequence[SubBlock]) -> LatencyTable:
    """Predictions of sub-blocks inside a network, with 0 rounds as nothing was measured."""
    named = [(block, recipe_for(block, model.recipes)) for block in blocks]
    parts = model.parts_of(named)
    rows: dict[str, Row] = {}
    for (block, recipe), ms, sd in zip(named, model.parts_ms(parts), parts["sd"], strict=True):
        key, ends = unit_of(block, recipe).key, _TENTH * float(sd)
        rows[key] = Row("unit", key, float(ms), float(ms) * exp(-ends), float(ms) * exp(ends), 0)
    return LatencyTable(model.identity, rows.values())


def to_csv(table: LatencyTable) -> str:
    """CSV with one line a sub-block, in ms; rounds are 0 where it is predicted."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["key", "group", "latency_ms", "std_ms", "rounds"])
    for key, figures in to_ofa(table).items():
        group = parse_unit(key).group
        writer.writerow([key, group, figures["mean"], figures["std"], figures["count"]])
    return stream.getvalue()


def to_flat(table: LatencyTable) -> dict[str, float]:
    """Key of a sub-block and recipe -> latency in ms; repeats are averaged."""
    return {key: fmean(level for _, level in repeats) for key, repeats in _repeats(table)}


def to_ofa(table: LatencyTable) -> dict[str, dict[str, float]]:
    """Form of Once-for-all: key -> {count, mean, std}, in ms; repeats are averaged.

    The standard deviation is that of a normal spread with the same 10th and 90th percentiles.
    """
    return {
        key: {
            "count": sum(row.n for row, _ in repeats),
            "mean": round(fmean(level for _, level in repeats), 6),
            "std": round(fmean(row.p90_ms - row.p10_ms for row, _ in repeats) / (2 * _TENTH), 6),
        }
        for key, repeats in _repeats(table)
    }


def _repeats(table: LatencyTable) -> list[tuple[str, list[tuple[Row, float]]]]:
    """Every sub-block and recipe in order of its key, with its rows and what each says in ms."""
    rows = list(table.of_kind("unit"))
    found: dict[str, list[tuple[Row, float]]] = {}
    for row, level in zip(rows, table.levels(rows), strict=True):
        found.setdefault(row.key, []).append((row, level))
    return sorted(found.items())


def reference_vectors(model: CostModel, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Inputs and expected outputs, so that another implementation can check itself.

    Each candidate comes with its sub-blocks, and each of these with its terms and coordinates,
    so that the parts can be tested one by one. Terms and group are those of the kernels that run,
    which may be of another recipe than the one in the key, by which weights are stored.
    """
    runtime = str(model.identity.get("runtime"))
    candidates = [candidate.without_exits() for candidate in candidates]
    predicted = model.predict(candidates)
    entries: list[dict[str, Any]] = []
    for index, candidate in enumerate(candidates):
        entries.append(
            {
                "key": candidate.key,
                "candidate": json.loads(candidate.to_json()),
                "sub_blocks": [
                    _vector(block, recipe, runtime, ms)
                    for block, recipe, ms in model.sub_blocks(candidate)
                ],
                "rest_ms": model.rest_ms(candidate),
                **predicted.row(index),
            }
        )
    return {"format": "vitpareto reference vectors", "version": 1, "vectors": entries}


def _vector(block: SubBlock, recipe: str, runtime: str, ms: float) -> dict[str, Any]:
    unit = unit_of(block, recipe)
    run = unit.run_as(kernel_recipe(recipe, runtime))
    about = {"key": unit.key, "group": run.group, "terms": run.terms, "numbers": run.numbers}
    return about | {"latency_ms": ms}
