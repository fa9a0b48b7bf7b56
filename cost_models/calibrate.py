"""Calibrate: measure what a space needs on a device within a time, fit, validate, save."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..spaces import Candidate, SearchSpace
from ..spaces.errors import CostError
from .bench import Bench, Graph
from .bundle import bundle_recipes, collect
from .device import Device
from .measure import ALARM, IN_TURN, ONE_BY_ONE
from .model import CostModel, fit_groups
from .plan import choose, fastest, occurring, trials
from .precision import Book, recipe_for
from .regress import Regressor
from .sizes import untold
from .stats import accuracy, noise_floor, storage
from .table import LatencyTable, Row, different
from .units import Unit, parse_unit, unit_of
from .workload import SubBlock

Progress = Callable[[float, str], None]

SURVEY = 1500  # candidates sampled to learn which sub-blocks a space has
CHUNK = 72  # sub-blocks of one session
MODELS = 10  # whole networks of one session
MODEL_SHARE = 0.42  # of the time, for whole networks
FRESH_EVERY = 4  # every fourth network validates
GROWTHS = 10  # processes started to learn the memory
UNREST = 0.04  # spread of a session's rounds from which it is measured a second time
RESERVE = 0.08  # of the time, for fitting


def calibrate(
    device: Device,
    space: SearchSpace,
    budget_s: float = 180.0,
    seed: int = 0,
    tables: Sequence[Path] = (),
    out: Path | None = None,
    progress: Progress | None = None,
) -> CostModel:
    """Measure sub-blocks and whole networks of a space, and fit a cost model.

    Measurements are kept in `OUT.csv` beside the model as soon as they are made: a second call
    with the same device goes on where the first was stopped.

    Args:
        device: where to measure.
        space: whose networks will be predicted.
        budget_s: wall time, export and compilation included.
        seed: of what is sampled.
        tables: measurements that are already there: CSV files of this device; or folders of
            bundles that were run elsewhere, and then nothing is measured here.
        out: where to save the model; not saved by default.
        progress: called with the share of the budget that is used, and what is being done.

    Raises:
        MissingRuntimeError: the device's runtime is not installed here.
        CostError: a table is of another device, or nothing could be measured in the time.
    """
    bundles = [path for path in tables if path.is_dir()]
    if bundles:
        model = from_bundles(bundles, [path for path in tables if path not in bundles])
    else:
        work = _Calibration(device, space, budget_s, seed, tables, out, progress or _silent)
        with threadpool_limits(1):  # small matrices; threads that wait for a core cost minutes
            model = work.run()
    if out is not None:
        model.save(out)
    return model


def from_bundles(bundles: Sequence[Path], tables: Sequence[Path] = ()) -> CostModel:
    """A model of the machine on which bundles were run.

    Raises:
        CostError: nothing was run, or the bundles and tables are of different devices.
    """
    table = collect(bundles[0])
    for other in (*map(collect, bundles[1:]), *map(LatencyTable.load, tables)):
        table = table.merged(other)
    model = CostModel.fit(table, bundle_recipes(bundles[0]))
    model.validation = validated(model, table)
    return model


def validated(model: CostModel, table: LatencyTable) -> dict[str, Any]:
    """Figures on the networks of a table that were kept out of fitting, and what was measured."""
    found: dict[str, Any] = {}
    rows = list(table.of_kind("fresh"))
    if rows:
        predicted = model.predict([Candidate.from_json(row.key) for row in rows])
        levels = np.array(table.levels(rows))
        found |= accuracy(levels, predicted) | storage(rows, predicted)
        found["noise_floor"] = noise_floor([row.key for row in rows], levels)
    return found | {
        "sub_blocks": sum(1 for _ in table.of_kind("unit")),
        "networks_fitted": len({row.key for row in table.of_kind("model")}),
        "networks_fresh": len({row.key for row in rows}),
    }


def quieter(first: Sequence[Row], second: Sequence[Row]) -> list[Row]:
    """For each graph the measurement whose rounds are closer together."""
    again = {row.key: row for row in second}
    return [min(row, again.get(row.key, row), key=lambda r: r.unrest) for row in first]


def _silent(share: float, text: str) -> None:
    """No progress bar."""


class _Calibration:
    """One calibration: what is known so far, and what to do with the time that is left."""

    def __init__(
        self,
        device: Device,
        space: SearchSpace,
        budget_s: float,
        seed: int,
        tables: Sequence[Path],
        out: Path | None,
        progress: Progress,
    ) -> None:
        self.start, self.budget = time.monotonic(), budget_s
        self.progress, self.seed = progress, seed
        self.device, self.space = device, space
        self.path = out.with_suffix(".csv") if out is not None else None
        self.table = _resumed(device, tables, self.path)
        self.progress(0.0, "looking at the space")
        self.found: Counter[SubBlock] = occurring(space.sample(SURVEY, seed))
        self.rng = np.random.default_rng([seed, len(self.table)])
        self.bench = Bench(device, seed)
        self.fresh = self.grown = 0
        self.last: dict[str, float] = {}  # share of the time that the last session of a kind took
        self.alarms = 0

    @property
    def used(self) -> float:
        """Share of the time that is gone."""
        return (time.monotonic() - self.start) / self.budget

    def run(self) -> CostModel:
        """Measure until the time is up, then fit and validate."""
        recipes = self.choose_recipes()
        self.learn_sizes(recipes)
        latency: dict[str, Regressor] = {}
        fitted, spent, begun = 0, 0.0, self.used
        networks = self.networks()
        while (now := self.used) + min(self.last.values(), default=0.0) < 1 - RESERVE:
            units = len(list(self.table.of_kind("unit")))
            if units > 1.5 * fitted:
                latency, fitted = fit_groups(self.table), units
            enough = spent > MODEL_SHARE * (now - begun)
            chosen = self.units(recipes, latency) if enough or not latency else []
            if chosen:
                self.measure("sub-blocks", [self.bench.unit(unit) for unit in chosen])
                self.last["sub-blocks"] = self.used - now
                continue
            kind = "fresh" if self.fresh % FRESH_EVERY == FRESH_EVERY - 1 else "model"
            self.fresh += 1
            graphs = [self.bench.network(c, recipes, kind) for c in next(networks)]
            ways = (IN_TURN, ONE_BY_ONE) if self.bench.writes_files else (IN_TURN,)
            self.measure("whole networks", graphs, rounds=12, growths=2, ways=ways)
            self.last["networks"] = self.used - now
            spent += self.used - now
        return self.fit(recipes)

    def networks(self) -> Iterator[list[Candidate]]:
        """Sets of different candidates that were not measured before, as long as there are any."""
        seen = {row.key for row in self.table.rows if row.kind in ("model", "fresh")}
        rng = random.Random(f"{self.seed} {len(seen)}")
        while True:
            found: dict[str, Candidate] = {}
            for _ in range(5 * MODELS):
                candidate = self.space.draw(rng)
                if candidate.to_json() not in seen:
                    found[candidate.to_json()] = candidate
                if len(found) == MODELS:
                    break
            seen = seen | set(found) if found else set()  # a small space is measured again
            if found:
                yield list(found.values())

    def units(self, recipes: Book, latency: dict[str, Regressor]) -> list[Unit]:
        """The next sub-blocks to measure."""
        known = {row.key for row in self.table.of_kind("unit")}
        runtime = self.device.runtime
        return choose(self.found, recipes, known, latency, CHUNK, self.rng, runtime)

    def choose_recipes(self) -> dict[str, str]:
        """Try every recipe that serves a precision on typical sub-blocks; keep the fastest."""
        tried = trials(self.found, self.device.recipes)
        known = {row.key for row in self.table.of_kind("unit")}
        graphs: list[Graph] = []
        for units in tried.values():
            for unit in units:
                if unit.key not in known:
                    known.add(unit.key)
                    graphs.append(self.bench.unit(unit))
            if len(graphs) >= CHUNK:
                self.measure("recipes", graphs)
                graphs = []
        if graphs:
            self.measure("recipes", graphs)
        level = {row.key: row.median_ms for row in self.table.of_kind("unit")}
        return {group: fastest(units, level) for group, units in tried.items()}

    def learn_sizes(self, recipes: Book) -> None:
        """Make the graphs that are needed to know every size."""
        rows = [*self.table.of_kind("unit"), *self.table.of_kind("size")]
        known = [parse_unit(row.key) for row in rows]
        often = sorted(self.found, key=lambda block: (-self.found[block], block.key))
        units = (unit_of(block, recipe_for(block, recipes)) for block in often)
        self.table.append(self.bench.sizes(untold(units, known)), self.path)

    def measure(
        self,
        what: str,
        graphs: Sequence[Graph],
        rounds: int = 7,
        growths: int = 0,
        ways: Sequence[str] = (IN_TURN,),
    ) -> None:
        """Time graphs, learn the memory of some, and keep what was measured."""
        self.progress(min(self.used, 1.0), f"measuring {what}, {len(self.table)} done")
        wanted = self.grown < GROWTHS or any(graph.kind == "fresh" for graph in graphs)
        for way in ways:  # each in a process of its own
            rows = self.bench.time(graphs, rounds, way)
            if what != "recipes" and rows and np.median([r.unrest for r in rows]) > UNREST:
                rows = quieter(rows, self.bench.time(graphs, rounds, way))
            if wanted and way == ways[0] and self.bench.writes_files:
                bytes_of = {g.key: round(self.bench.growth_mb(g) * 1e6) for g in graphs[:growths]}
                rows = [replace(row, peak_bytes=bytes_of.get(row.key, 0)) for row in rows]
                self.grown += len(bytes_of)
            self.alarms += not rows or rows[0].drift > ALARM
            self.table.append(rows, self.path)

    def fit(self, recipes: Book) -> CostModel:
        """Fit everything, and validate on the networks that were kept out."""
        self.progress(min(self.used, 1.0), "fitting")
        model = CostModel.fit(self.table, recipes)
        model.validation = validated(model, self.table) | {
            "sessions_with_alarm": self.alarms,
            "space": self.space.name,
            "measured_s": round(time.monotonic() - self.start, 1),
        }
        return model


def _resumed(device: Device, tables: Sequence[Path], path: Path | None) -> LatencyTable:
    """What is measured already: the given tables, and the file beside the model."""
    own = LatencyTable(device.identity())
    files = [*tables, *([path] if path is not None and path.exists() else [])]
    for file in files:
        other = LatencyTable.load(file)
        if other.fingerprint != own.fingerprint:
            raise CostError(
                f"{file}: was measured on another device: "
                + different(own.identity, other.identity)
            )
        own = own.merged(other)
    if path is not None and tables:
        own.save(path)
    return own
