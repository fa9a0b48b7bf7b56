"""Calibrate: measure what a space needs on a device within a time, fit, validate, save."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from ...spaces import Candidate, SearchSpace
from ...spaces.errors import CostError, RunError, VitParetoError
from ..device import Device, check_settings
from ..measure.bench import MODELS, ROUNDS, UNREST, Bench, TimedGraph
from ..measure.runnable import left_out, runnable
from ..predict.file_size import untold
from ..predict.groups import fit_groups
from ..predict.model import CostModel
from ..predict.regressor import Regressor
from ..standalone.timing import ALARM, IN_TURN, ONE_BY_ONE
from ..tables.latency_table import LatencyTable, Row, different, with_footprints
from ..units.precision_recipes import Book, recipe_for
from ..units.sub_block import SubBlock
from ..units.unit import Unit, parse_unit, unit_of
from .bundle import collect, recipes_of, sets_in
from .selection import choose, fastest, occurring, trials
from .validation import complaint, validated

log = logging.getLogger("vitpareto")
Progress = Callable[[float, str], None]

TABLE = ".csv"  # ends the file of measurements, which is called as the model's
SURVEY = 1500  # candidates sampled to learn which sub-blocks a space has
CHUNK, FEWEST_UNITS = 72, 12  # sub-blocks of one session, at most and at least
FEW = 5  # networks of the first sets, where time is short
SHORT = 0.2  # of the time: it is short where the recipes alone took that
MODEL_SHARE = 0.42  # of the time, for whole networks
FITTED = 3  # networks fitted for each that validates
FOOTPRINTS = 16  # networks whose memory and energy are fitted
SET_FOOTPRINTS = 4  # of one set
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
        space: whose networks will be predicted, but for those that the device cannot execute.
        budget_s: wall time, export and compilation included; what a model cannot do without is
            measured even if that takes longer: the recipes, and a few networks to fit and to
            validate it with.
        seed: of what is sampled.
        tables: measurements that are already there: CSV files of this device; or folders of
            bundles that were run elsewhere, and then nothing is measured here.
        out: where to save the model, a file that does not end in .csv; not saved by default.
        progress: called with the share of the budget that is used, and what is being done.

    Raises:
        MissingRuntimeError: the device's runtime is not installed here.
        CostError: a table is of another device, a bundle of one with other settings, nothing could
            be measured in the time, or the device cannot execute anything of the space.
        RunError: `out` cannot be written, or is where its measurements are kept.
    """
    if out is not None and out == out.with_suffix(TABLE):
        raise RunError(
            f"{out}: a model is JSON, and measurements are kept in a {TABLE} beside it: name a "
            f"file such as {out.with_suffix('.json')}"
        )
    bundles = [path for path in tables if path.is_dir()]
    if bundles:
        model = from_bundles(bundles, [path for path in tables if path not in bundles])
        check_settings(device, model.identity, str(bundles[0]))
    else:
        work = _Calibration(device, space, budget_s, seed, tables, out, progress or _silent)
        # Small matrices; threads that wait for a core cost minutes. OpenMP keeps its number: torch
        # reads that one and sets MKL's, too, so that who restores torch's would leave MKL at 1.
        with threadpool_limits(1, user_api="blas"):
            model = work.run()
    if out is not None:
        model.save(out)
    return model


def from_bundles(bundles: Sequence[Path], tables: Sequence[Path] = ()) -> CostModel:
    """A model of the machine on which bundles or kits were run.

    Raises:
        CostError: nothing was run, something was edited, or bundles and tables are of different
            devices.
    """
    bundles = [sets_in(folder) for folder in bundles]
    table = collect(bundles[0])
    for other in (*map(collect, bundles[1:]), *map(_checked, tables)):
        table = table.merged(other)
    recipes: dict[str, str] = {}
    for folder in bundles:
        recipes = recipes_of(folder, table) | recipes
    model = CostModel.fit(table, recipes)
    model.validation = validated(model, table)
    return model


def _silent(share: float, text: str) -> None:
    """No progress bar."""


class _Calibration:
    """One calibration: its measurements so far, and the use of the time that is left."""

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
        self.device = device
        self.space, refusals = runnable(device, space)
        if refusals:
            log.warning("%s", left_out(device, refusals))
        self.path = out.with_suffix(TABLE) if out is not None else None
        self.table = _resumed(device, tables, self.path)
        self.progress(0.0, "looking at the space")
        self.counts: Counter[SubBlock] = occurring(self.space.sample(SURVEY, seed))
        self.rng = np.random.default_rng([seed, len(self.table)])
        self.draws = random.Random(f"{seed} {len(self.table)}")
        self.bench = Bench(device, seed)
        self.footprints = 0
        self.restless: list[list[TimedGraph]] = []  # sets whose first measurement was disturbed
        self.each: dict[str, float] = {}  # share of the time that a graph of the last session took
        self.sessions = self.alarms = self.unsettled = 0

    @property
    def used(self) -> float:
        """Share of the time that is gone."""
        return (time.monotonic() - self.start) / self.budget

    def run(self) -> CostModel:
        """Measure until the time is up, then fit and validate.

        Two sets of whole networks come first and in any case, one that is fitted and one that
        validates: the sub-blocks on which recipes were tried suffice for a first fit. Others take
        what is left.
        """
        recipes = self.choose_recipes()
        self.learn_sizes(recipes)
        begun = self.used
        count = FEW if begun > SHORT else MODELS
        for kind in ("model", "fresh"):
            if not any(True for _ in self.table.of_kind(kind)):
                self.measure_networks(recipes, count)
        latency: dict[str, Regressor] = {}
        fitted, spent = 0, self.used - begun
        while self.used < 1 - RESERVE:
            units = len(list(self.table.of_kind("unit")))
            if units > 1.5 * fitted:
                latency, fitted = fit_groups(self.table), units
            now, networks_fit = self.used, self.room("networks", MODELS) == MODELS
            due = networks_fit and spent <= MODEL_SHARE * (now - begun)
            room = 0 if due else self.room("sub-blocks", CHUNK)
            chosen = self.units(recipes, latency, room) if room >= FEWEST_UNITS else []
            if chosen:
                self.measure_units("sub-blocks", chosen)
            elif networks_fit:
                self.measure_networks(recipes)
                spent += self.used - now
            else:
                break
        if not latency and self.units(recipes, {}, 1):
            log.warning(
                "%g s sufficed to try recipes, which are tried on large sub-blocks, and for no "
                "others: small ones may be predicted far off; a longer calibrate_s helps",
                self.budget,
            )
        return self.fit(recipes)

    def room(self, what: str, most: int) -> int:
        """Number of graphs for which there is time, by what the last ones took."""
        left, each = 1 - RESERVE - self.used, self.each.get(what, 0.0)
        return most if most * each <= left else max(int(left / each), 0)

    def measure_units(self, what: str, units: Sequence[Unit], skip: bool = False) -> None:
        """Measure sub-blocks.

        Args:
            what: they are, for messages.
            units: the sub-blocks.
            skip: those in a recipe that the runtime cannot hold, as others may do.

        Raises:
            CostError: the runtime cannot hold one, and it is not to be skipped.
        """
        before = self.used
        graphs: list[TimedGraph] = []
        for unit in units:
            try:
                graphs.append(self.bench.unit(unit))
            except CostError:
                if not skip:
                    raise
        self.measure(what, graphs)
        self.each["sub-blocks"] = (self.used - before) / len(units)

    def measure_networks(self, recipes: Book, count: int = MODELS) -> None:
        """Measure a set that was restless before, or else a new one.

        What disturbed a set is often gone half a minute later, and not before. The first set that
        validates comes before any that is measured again.

        Args:
            recipes: group -> recipe.
            count: networks of a new one.
        """
        before = self.used
        again = bool(self.restless) and any(True for _ in self.table.of_kind("fresh"))
        if again:
            graphs = self.restless.pop(0)
        else:
            kind, candidates = self.networks(count)
            graphs = [self.bench.network(c, recipes, kind) for c in candidates]
        ways = (IN_TURN, ONE_BY_ONE) if self.bench.writes_files else (IN_TURN,)
        footprints = 0 if again else SET_FOOTPRINTS
        rows = self.measure("whole networks", graphs, ROUNDS, footprints, ways)
        if not again and rows and np.median([row.unrest for row in rows]) > UNREST:
            self.restless.append(graphs)
        self.each["networks"] = (self.used - before) / len(graphs)

    def networks(self, count: int) -> tuple[str, list[Candidate]]:
        """Kind and candidates of the next set, none of which was measured before.

        A small space is measured again, each network as what it was, so that none that was fitted
        ever validates.
        """
        known = {row.key: row.kind for row in self.table.rows if row.kind in ("model", "fresh")}
        drawn = (self.space.draw(self.draws).without_exits() for _ in range(5 * MODELS))
        keyed = {candidate.to_json(): candidate for candidate in drawn}
        chosen = [candidate for key, candidate in keyed.items() if key not in known]
        kinds = Counter(known.values())
        kind = "fresh" if FITTED * kinds["fresh"] < kinds["model"] else "model"
        if not chosen:
            kind = known[next(iter(keyed))]
            chosen = [candidate for key, candidate in keyed.items() if known[key] == kind]
        return kind, chosen[:count]

    def units(self, recipes: Book, latency: dict[str, Regressor], count: int) -> list[Unit]:
        """The next sub-blocks to measure."""
        known = {row.key for row in self.table.of_kind("unit")}
        runtime = self.device.runtime
        return choose(self.counts, recipes, known, latency, count, self.rng, runtime)

    def choose_recipes(self) -> dict[str, str]:
        """Try every recipe that serves a precision on typical sub-blocks; keep the fastest."""
        tried = trials(self.counts, self.device.recipes)
        known = {row.key for row in self.table.of_kind("unit")}
        waiting: list[Unit] = []
        for units in tried.values():
            for unit in units:
                if unit.key not in known:
                    known.add(unit.key)
                    waiting.append(unit)
            if len(waiting) >= CHUNK:
                self.measure_units("recipes", waiting, skip=True)
                waiting = []
        if waiting:
            self.measure_units("recipes", waiting, skip=True)
        level = {row.key: row.median_ms for row in self.table.of_kind("unit")}
        return {group: fastest(units, level) for group, units in tried.items()}

    def learn_sizes(self, recipes: Book) -> None:
        """Make the graphs from which every size can be predicted."""
        rows = [*self.table.of_kind("unit"), *self.table.of_kind("size")]
        known = [parse_unit(row.key) for row in rows]
        often = sorted(self.counts, key=lambda block: (-self.counts[block], block.key))
        units = (unit_of(block, recipe_for(block, recipes)) for block in often)
        self.table.append(self.bench.sizes(untold(units, known)), self.path)

    def measure(
        self,
        what: str,
        graphs: Sequence[TimedGraph],
        rounds: int = 7,
        footprints: int = 0,
        ways: Sequence[str] = (IN_TURN,),
    ) -> list[Row]:
        """Time graphs, learn memory and energy of some, and keep what was measured."""
        self.progress(min(self.used, 1.0), f"measuring {what}, {len(self.table)} done")
        wanted = self.footprints < FOOTPRINTS or any(graph.kind == "fresh" for graph in graphs)
        measured: list[Row] = []
        for way in ways:  # each in a process of its own
            rows = self.bench.time(graphs, rounds, way)
            if wanted and way == ways[0]:
                taken = {g.key: self.bench.footprint(g) for g in graphs[:footprints]}
                rows = with_footprints(rows, taken)
                self.footprints += len(taken)
            self.sessions += 1
            self.alarms += not rows or rows[0].drift > ALARM
            self.unsettled += sum(not row.stable for row in rows)
            self.table.append(rows, self.path)
            measured += rows
        return measured

    def fit(self, recipes: Book) -> CostModel:
        """Fit everything, and validate on the networks that were kept out."""
        self.progress(min(self.used, 1.0), "fitting")
        if words := complaint(self.unsettled, self.alarms, self.sessions):
            log.warning("%s", words)
        model = CostModel.fit(self.table, recipes)
        model.validation = validated(model, self.table) | {
            "unsettled": self.unsettled,
            "sessions": self.sessions,
            "sessions_with_alarm": self.alarms,
            "space": self.space.name,
            "measured_s": round(time.monotonic() - self.start, 1),
        }
        return model


def _resumed(device: Device, tables: Sequence[Path], path: Path | None) -> LatencyTable:
    """Measurements made before: the given tables, and the file beside the model."""
    own = LatencyTable(device.identity())
    files = [*tables, *([path] if path is not None and path.exists() else [])]
    for file in files:
        other = _checked(file)
        if other.fingerprint != own.fingerprint:
            raise CostError(
                f"{file}: was measured on another device: "
                + different(own.identity, other.identity)
            )
        own = own.merged(other)
    if path is not None:  # whole lines under today's columns, which new rows can follow
        own.save(path)  # what cannot be written says so before anything is measured
    return own


def _checked(file: Path) -> LatencyTable:
    """A table whose rows all name a sub-block or a network.

    Raises:
        CostError: one does not, or the file is not a table.
    """
    table = LatencyTable.load(file)
    for row in table.rows:
        try:
            (parse_unit if row.kind in ("unit", "size") else Candidate.from_json)(row.key)
        except VitParetoError as error:
            raise CostError(f"{file}: kind {row.kind!r}, key {row.key!r}: {error}") from None
    return table
