"""Transferred: a cost model of a new device, from known ones and a few of its own measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError
from ..predict import conformal
from ..predict.error_figures import accuracy
from ..predict.model import LEVEL, CostModel
from ..tables.anchors import geometric
from ..tables.latency_table import LatencyTable, Row, quietest
from ..units.precision_recipes import kernel_recipe, recipe_for
from ..units.sub_block import SubBlock
from ..units.unit import Unit, parse_unit, unit_of
from .transfer import farthest, transfer

Array = NDArray[np.float64]
FEWEST = 5  # sub-blocks that were measured, before anything is said
MOST = 150  # sub-blocks of a group that are predicted; the model interpolates
_KIND = 0.15  # by which a device may do all of a group, or of a recipe, faster than others do
_SAME = ("runtime", "provider", "batch")  # where these differ not even ranks survive


def transfer_model(
    models: Sequence[CostModel],
    measured: LatencyTable,
    blocks: Iterable[SubBlock],
) -> CostModel:
    """A model of the device of a few measurements.

    Sub-blocks that were not measured there are predicted from the models; networks, if some were,
    fit the correction, and else it is that of the first model at the speed of the new device.

    Args:
        models: of known devices with the same runtime and provider; recipes and sizes are those
            of the first.
        measured: sub-blocks, and networks if there are any, on the new device.
        blocks: what will be predicted.

    Raises:
        CostError: too few measurements, or a device with another runtime, provider or batch.
    """
    for model in models:
        _check_same(model.identity, measured.identity)
    known = _levels(measured, models)
    if len(known) < FEWEST:
        raise CostError(
            f"need {FEWEST} measured sub-blocks or more whose groups the models have, "
            f"got {len(known)}"
        )
    units = _units(models, blocks)
    units = [*known, *(unit for unit in units if unit not in known)]
    sources, ms = _sources(models, units), np.array(list(known.values()))
    alike = _alike(units)
    expected = transfer(sources, range(len(known)), ms, alike)
    rows = [
        Row("unit", unit.key, float(value), 0.0, 0.0, 0)
        for unit, value in zip(units[len(known) :], expected[len(known) :], strict=True)
    ]
    own = {unit.key for unit in known}
    rows += [row for row in measured.rows if row.kind != "unit" or row.key in own]
    table = LatencyTable(measured.identity, rows)
    fitted = CostModel.fit(table, models[0].recipes)
    errors = _left_out(sources[:, : len(known)], ms, alike[:, : len(known)])
    ratio = float(np.exp(np.median(np.log(expected / sources[0]))))
    model = _completed(fitted, models[0], measured, errors, ratio)
    model.validation = _validated(model, measured) | {
        "transferred_from": [model.to_dict()["fingerprint"] for model in models],
        "sub_blocks": len(known),
        "sub_block_error": round(float(np.median(errors)) * 100, 3),
    }
    return model


def telling_units(models: Sequence[CostModel], blocks: Iterable[SubBlock], count: int) -> list[str]:
    """Keys of sub-blocks to measure on a new device, as different as the models can tell.

    Each group gives its share, so that none is unknown.

    Args:
        models: of known devices.
        blocks: what will be predicted.
        count: how many.
    """
    groups: dict[str, list[Unit]] = {}
    for unit in _units(models, blocks):
        groups.setdefault(unit.group, []).append(unit)
    ranked: list[list[str]] = []
    for units in groups.values():
        order = farthest(_sources(models, units), -(-count // len(groups)))
        ranked.append([units[i].key for i in order])
    turns = max(map(len, ranked), default=0)
    keys = [keys[turn] for turn in range(turns) for keys in ranked if turn < len(keys)]
    return keys[:count]


def transfer_table(data: Mapping[str, Any], measured: Mapping[str, float], device: str) -> Any:
    """Latencies of a new device in an imported table.

    Args:
        data: what `costs import` wrote.
        measured: key -> latency on the new device in ms.
        device: its name.

    Raises:
        CostError: too few of these keys are in the table.
    """
    columns = [
        np.array([np.nan if value is None else value for value in entry["latency_ms"]], float)
        for entry in data["devices"].values()
    ]
    complete = np.flatnonzero(np.all([column > 0 for column in columns], axis=0))
    keys = [data["keys"][i] for i in complete]
    at = [i for i, key in enumerate(keys) if key in measured]
    if len(at) < FEWEST:
        raise CostError(f"need {FEWEST} measured keys or more of the table, got {len(at)}")
    sources = np.array(columns)[:, complete]
    groups = [data["groups"][i] for i in complete]
    alike = _indicators([groups])
    ms = np.array([measured[keys[i]] for i in at])
    latencies = transfer(sources, at, ms, alike)
    latencies[at] = ms
    errors = _left_out(sources[:, at], ms, alike[:, at])
    about = {
        "rows": len(keys),
        "measured": len(at),
        "left_out_error": round(float(np.median(errors)) * 100, 3),
        "latency_ms": [float(f"{value:.6g}") for value in latencies],
    }
    kept = {name: data[name] for name in ("format", "version", "source")}
    return {**kept, "findings": [], "devices": {device: about}, "keys": keys, "groups": groups}


def _check_same(source: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    for name in _SAME:
        if source.get(name) != target.get(name):
            raise CostError(
                f"{name} must be the same, or nothing can be transferred: {source.get(name)!r} "
                f"of the model, {target.get(name)!r} of the measurements"
            )


def _levels(measured: LatencyTable, models: Sequence[CostModel]) -> dict[Unit, float]:
    """Measured units that the models know of, and the latency of each at the usual speed."""
    rows = list(measured.of_kind("unit"))
    levels: dict[Unit, list[float]] = {}
    for row, level in zip(rows, measured.levels(rows), strict=True):
        unit = parse_unit(row.key)
        if all(unit.group in model.groups for model in models):
            levels.setdefault(unit, []).append(level)
    return {unit: geometric(values) for unit, values in levels.items()}


def _units(models: Sequence[CostModel], blocks: Iterable[SubBlock]) -> list[Unit]:
    """Units of sub-blocks, in groups that all models have; the same number of each group."""
    first = models[0]
    runtime = str(first.identity.get("runtime"))
    groups: dict[str, dict[str, Unit]] = {}
    for block in blocks:
        unit = unit_of(block, kernel_recipe(recipe_for(block, first.recipes), runtime))
        if all(unit.group in model.groups for model in models):
            groups.setdefault(unit.group, {})[unit.key] = unit
    rng = np.random.default_rng(0)
    selected: list[Unit] = []
    for units in groups.values():
        every = [units[key] for key in sorted(units)]
        chosen = set(rng.permutation(len(every))[:MOST].tolist()) | _ends(every)
        selected += [every[i] for i in sorted(chosen)]
    return selected


def _ends(units: Sequence[Unit]) -> set[int]:
    """The first and the last along every coordinate, so that nothing is outside."""
    names = {name for unit in units for name in unit.numbers}
    columns = [[unit.numbers.get(name, 0.0) for unit in units] for name in names]
    return {int(pick(column)) for column in columns for pick in (np.argmin, np.argmax)}


def _sources(models: Sequence[CostModel], units: Sequence[Unit]) -> Array:
    """(models, units) latencies alone, in ms."""
    pairs = [(unit.block, unit.recipe) for unit in units]
    return np.array([model.parts_of(pairs)["ms"] for model in models])


def _alike(units: Sequence[Unit]) -> Array:
    """Directions in which devices differ: by group, by kind and variant, by recipe."""
    kinds = [f"{unit.block.kind}/{unit.block.variant}" for unit in units]
    return _indicators([[unit.group for unit in units], kinds, [unit.recipe for unit in units]])


def _indicators(labelings: Sequence[Sequence[str]]) -> Array:
    rows = [
        [_KIND * (label == name) for label in labels]
        for labels in labelings
        for name in dict.fromkeys(labels)
    ]
    return np.array(rows)


def _left_out(sources: Array, ms: Array, alike: Array) -> Array:
    """Error of each measurement's logarithm when the others predict it."""
    errors = np.zeros(len(ms))
    for i in range(len(ms)):
        others = np.delete(np.arange(len(ms)), i)
        errors[i] = abs(np.log(transfer(sources, others, ms[others], alike)[i] / ms[i]))
    return errors


def _completed(
    fitted: CostModel, first: CostModel, measured: LatencyTable, errors: Array, ratio: float
) -> CostModel:
    """A model completed from the first known one where its few measurements do not suffice."""
    data, known = fitted.to_dict(), first.to_dict()
    data["size"] = known["size"]  # of the same files
    if not any(row.peak_bytes for row in measured.of_kind("model")):
        data["memory"] = known["memory"]
    if not any(measured.of_kind("model")):
        factors = known["correction"]
        times = ("per_call_ms", "constant_ms", "per_miss_mb")
        data["correction"] = factors | {name: factors[name] * ratio for name in times}
        base = max(float(np.median(errors)), 1e-3)
        data["interval"] |= {"base": base, "width": conformal.quantile(errors / base, LEVEL)}
    return CostModel.from_dict(data)


def _validated(model: CostModel, measured: LatencyTable) -> dict[str, Any]:
    """Figures on networks that are kept out of fitting, if some were measured."""
    rows = quietest(measured.of_kind("fresh"))
    networks = {
        "networks_fresh": len(rows),
        "networks_fitted": len(list(measured.of_kind("model"))),
    }
    if not rows:
        return networks
    levels = np.array(measured.levels(rows))
    return accuracy(levels, model.predict_measured(rows)) | networks
