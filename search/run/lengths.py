"""Lengths: what a budget may choose of a run, within which bounds, and what it has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import RunConfig
from ..cores import core_count
from ..store.atomic_files import read_json, write_json
from ..store.run_folder import RunFolder
from ..training.finalists import LONGEST
from .inheriting import RECIPE
from .stages import Stage

KEYS: Mapping[Stage, tuple[str, ...]] = {
    Stage.CALIBRATION: ("device.calibrate_s",),
    Stage.START: ("start.adapt.epochs",),
    Stage.TEACHER: ("teacher.epochs",),
    Stage.SUPERNET: ("supernet.epochs",),
    Stage.FORECAST: ("forecast.candidates", "forecast.steps"),
    Stage.SEARCH: ("search.trials",),
    Stage.SHORTLIST: ("finish.finalists",),
    Stage.FINISHING: ("finish.epochs",),
}  # that a stage may choose
LEAST: Mapping[str, int] = {
    "device.calibrate_s": 10,
    "start.adapt.epochs": 1,
    "teacher.epochs": 3,
    "supernet.epochs": 1,
    "forecast.candidates": 8,
    "forecast.steps": 40,
    "search.trials": 40,
    "finish.finalists": 1,
    "finish.epochs": 4,
}
MOST: Mapping[str, int] = {
    "device.calibrate_s": 120,
    "start.adapt.epochs": 30,
    "teacher.epochs": 60,
    "supernet.epochs": 40,
    "forecast.candidates": 60,
    "forecast.steps": 240,
    "search.trials": 200,
    "finish.finalists": 4,
    "finish.epochs": LONGEST,
}
MOST_WORKERS = 8  # that a budget takes without being asked


def open_keys(config: RunConfig) -> list[str]:
    """Keys that a budget may choose, as they are not given."""
    return config.open_keys([*choosable(config), *RECIPE])


def choosable(config: RunConfig) -> list[str]:
    """Lengths that a budget may choose: a start is adapted, all else is trained from nothing."""
    idle = {Stage.TEACHER, Stage.SUPERNET} if config.start.model else {Stage.START}
    return [key for stage in KEYS if stage not in idle for key in KEYS[stage]]


def with_workers(config: RunConfig) -> RunConfig:
    """The configuration with a worker a core, if it has a budget and does not say how many."""
    executor = "executor.workers"
    if not config.budget_s or config.executor.kind != "local" or not config.open_keys([executor]):
        return config
    return config.with_values({executor: min(core_count(), MOST_WORKERS)})


def as_decided(config: RunConfig, before: RunConfig, folder: RunFolder) -> RunConfig:
    """A configuration for a run that goes on: what is not given stays as it was decided.

    Args:
        config: as it is read now.
        before: that of the run folder.
        folder: of the run.

    Raises:
        ConfigError: what is given now contradicts what was decided.
    """
    kept: dict[str, Any] = read_json(folder.budget) if folder.budget.exists() else {}
    chosen = [key for stage in kept.get("chosen", {}).values() for key in stage["values"]]
    if before.budget_s:
        chosen.append("executor.workers")
    values = {key: before.value_of(key) for key in config.open_keys(chosen)}
    budget = config.budget if "budget" in config.model_fields_set else before.budget
    return config.with_values(values).model_copy(update={"budget": budget})


def keep_open(config: RunConfig, folder: RunFolder) -> None:
    """Note what a run that goes on may still choose: nothing that is given now.

    Args:
        config: as it is read.
        folder: of the run.
    """
    if folder.budget.exists():
        kept: dict[str, Any] = read_json(folder.budget)
        still = set(open_keys(config))
        write_json(folder.budget, kept | {"open": [k for k in kept["open"] if k in still]})
