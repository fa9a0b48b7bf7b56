"""CostModel: candidates in, latency with an interval, memory and size out. numpy only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...spaces import Candidate
from ...spaces.errors import CostError
from ...spaces.exits import EXPECTED, exits_in, has_exits, reached
from ...spaces.files import write_atomic
from ..device import fingerprint
from ..hand_over import check_hand_over
from ..tables.anchors import Pace
from ..tables.latency_table import LatencyTable, Row, quietest
from ..units.indexer import Indexer
from ..units.precision_recipes import Book, group_of, recipe_for
from ..units.sub_block import SubBlock
from ..units.workload import is_exit, workload
from . import conformal
from .correction import LEAST, Correction, fit_correction
from .energy import EnergyModel, fit_energy
from .file_size import SizeModel
from .groups import fit_groups
from .memory import MemoryModel, fit_memory
from .model_file import FORMAT, NAME, check_model, read_model
from .prediction import Array, Prediction
from .regressor import Regressor
from .unit_costs import COLUMNS, UnitCosts, kind_of
from .unit_sums import Leaving, Parts

LEVEL = 0.9
_OUTSIDE = 2.0  # an interval is this much wider outside of what was measured


class CostModel:
    """Predicts the costs of candidates on one device.

    Made by `fit`, or by `load` from what `save` wrote.

    Attributes:
        identity: the device that was measured, as `Device.identity` gives it.
        recipes: group of sub-blocks -> recipe that was the fastest there.
        validation: figures on whole models that were never used for fitting.
        pace: usual times of the anchors while the device was measured.
        energy: what a run takes above idle; None where no counter told.
    """

    def __init__(
        self,
        identity: dict[str, Any],
        recipes: Book,
        latency: dict[str, Regressor],
        correction: Correction,
        interval: tuple[float, float],
        memory: MemoryModel,
        size: SizeModel,
        validation: dict[str, Any] | None = None,
        pace: Pace | None = None,
        energy: EnergyModel | None = None,
    ) -> None:
        self.identity, self.recipes = identity, dict(recipes)
        self.validation = validation or {}
        self.pace, self.energy = pace or Pace(), energy
        self._latency, self._correction, self._interval = latency, correction, interval
        self._memory, self._size = memory, size
        runtime = str(identity.get("runtime"))
        self._costs = UnitCosts(recipes, latency, size.graph_bytes, correction.kinds, runtime)
        self._indexer = Indexer(self._costs.number)

    @classmethod
    def fit(
        cls,
        table: LatencyTable,
        recipes: Book,
    ) -> CostModel:
        """Fit predictor, correction and interval to a table of sub-blocks and whole models.

        Args:
            table: its unit rows give the predictor, its model rows correction and interval.
            recipes: group of sub-blocks -> recipe.

        Raises:
            CostError: the table has no units.
        """
        rows = list(table.of_kind("unit"))
        if not rows:
            raise CostError("the table has no measured sub-blocks")
        size = SizeModel.fit([*rows, *table.of_kind("size")])
        latency = fit_groups(table)
        kinds = sorted({kind_of(group) for group in latency} - {""})
        plain = Correction(kinds, [1.0] * len(kinds))
        first = cls(table.identity, recipes, latency, plain, (1.0, 0.1), MemoryModel(), size)
        models = quietest(table.of_kind("model"))
        if not models:
            return first
        networks = {(row.key, row.recipes): row for row in models}
        place = {network: at for at, network in enumerate(networks)}
        at = np.array([place[row.key, row.recipes] for row in models])
        actual = np.array(table.levels(models))
        # A network is timed in more ways than one, and the number to predict is their middle.
        times = np.bincount(at)
        middle = np.exp(np.bincount(at, np.log(actual)) / times)
        unrest = np.bincount(at, [row.unrest for row in models]) / times
        parts = first._measured(networks.values())
        correction, left_out = fit_correction(parts.sums(kinds), middle, unrest)
        base = max(float(np.median(np.abs(np.log(middle / left_out)))), 1e-3)
        # The interval is to hold whichever way was taken.
        errors = conformal.scores(actual, left_out[at], (base + parts.spread)[at])
        interval = conformal.quantile(errors, LEVEL), base
        size = size.with_models(models, parts.graph_bytes[at])
        memory, energy = MemoryModel(), None
        if grown := [row for row in table.of_kind("model") if row.peak_bytes]:
            growth_mb = np.array([row.peak_bytes for row in grown]) / 1e6
            taken = [place[row.key, row.recipes] for row in grown]
            loaded_mb, stored_mb, live_mb, counts = (column[taken] for column in parts.storage)
            memory = fit_memory(loaded_mb, stored_mb, live_mb, counts, growth_mb)
        if metered := [row for row in table.of_kind("model") if row.energy_mj]:
            taken = [place[row.key, row.recipes] for row in metered]
            energy_mj = np.array([row.energy_mj for row in metered])
            energy = fit_energy(left_out[taken], parts.storage[0][taken], energy_mj, LEVEL)
        return cls(
            *(table.identity, recipes, latency, correction, interval, memory, size),
            pace=table.pace,
            energy=energy,
        )

    def predict(
        self,
        candidates: Sequence[Candidate],
        leaving: Mapping[str, tuple[float, ...]] | None = None,
    ) -> Prediction:
        """Costs of candidates; those that share blocks share the work.

        Args:
            candidates: of any space.
            leaving: candidate in canonical JSON -> share of the images at each exit that leaves
                there, where that was measured; `EXPECTED` of them otherwise.

        Raises:
            CostError: a precision that the device cannot run, or exits that it cannot have.
        """
        if not candidates:
            empty = np.zeros(0)
            return Prediction(empty, empty, empty, empty, empty, np.zeros(0, bool))
        parts = self._parts(candidates)
        if any(has_exits(candidate.architecture) for candidate in candidates):
            parts = replace(parts, leaving=self._leaving(candidates, parts, leaving or {}))
        return self.predict_parts(parts)

    def predict_measured(self, rows: Sequence[Row]) -> Prediction:
        """Costs of the networks of rows of a table, in the recipes that they were made with."""
        return self.predict_parts(self._measured(rows))

    def predict_parts(self, parts: Parts) -> Prediction:
        """Costs of networks that are given as their sub-blocks."""
        own, more = self.parts_ms(parts), 0.0
        constant_bytes: float | Array = self._size.constant_bytes
        if parts.leaving:
            own = own * parts.leaving.reach
            more = self._more_ms(parts.leaving)
            constant_bytes = constant_bytes * parts.leaving.files
        loaded_mb, stored_mb, live_mb, counts = parts.storage
        together = parts.total(own)
        whole = together + self._correction.model_ms(loaded_mb) + more
        latency = np.maximum(whole, LEAST * together)
        width, base = self._interval
        inside = parts.total(1 - parts["inside"]) == 0
        spread = parts.total(own * parts["sd"]) / latency
        wider = np.where(inside, 1.0, _OUTSIDE)
        half = width * (base + spread) * wider
        return Prediction(
            latency_ms=latency,
            low_ms=latency * np.exp(-half),
            high_ms=latency * np.exp(half),
            peak_memory_mb=self._memory.predict(loaded_mb, stored_mb, live_mb, counts),
            size_mb=(parts.graph_bytes + constant_bytes) / 1e6,
            inside=inside,
            **self._energies(latency, loaded_mb, wider),
        )

    def parts_of(self, blocks: Sequence[tuple[SubBlock, str]]) -> Parts:
        """One network of these sub-blocks, each with the recipe whose kernels it has."""
        numbers = [self._costs.number(block, {group_of(block): name}) for block, name in blocks]
        return Parts(self._costs.rows(), np.array(numbers, np.intp), np.zeros(1, np.intp))

    def parts_ms(self, parts: Parts) -> Array:
        """(parts,) time of each sub-block inside a network, in ms."""
        return self._corrected(parts.rows)[parts.index]

    def sub_blocks(self, candidate: Candidate) -> list[tuple[SubBlock, str, float]]:
        """Sub-blocks, recipe and mean time of each in ms; with `rest_ms` they add up."""
        blocks, parts = workload(candidate).sub_blocks, self._parts([candidate])
        ms = self.parts_ms(parts)
        if has_exits(candidate.architecture):
            ms = ms * self._leaving([candidate], parts, {}).reach
        recipes = [recipe_for(block, self.recipes) for block in blocks]
        return list(zip(blocks, recipes, ms.tolist(), strict=True))

    def rest_ms(self, candidate: Candidate) -> float:
        """Time of a run beside its sub-blocks, in ms."""
        parts = self._parts([candidate])
        rest = float(self._correction.model_ms(parts["loaded_mb"].sum(keepdims=True))[0])
        if not has_exits(candidate.architecture):
            return rest
        return rest + float(self._more_ms(self._leaving([candidate], parts, {}))[0])

    def exit_ms(self, candidate: Candidate) -> list[float]:
        """Time of one run of each part of a candidate with exits, in ms."""
        parts = self._parts([candidate])
        part = np.cumsum([0, *is_exit(candidate)[:-1]])
        together = np.bincount(part, self.parts_ms(parts))
        together[0] += self._correction.model_ms(parts["loaded_mb"].sum(keepdims=True))[0]
        together[1:] += max(self._correction.constant_ms, 0.0)
        return np.maximum(together, 1e-6).tolist()

    def block_mj(self, block: SubBlock, recipe: str) -> tuple[float, float, float] | None:
        """Energy of one sub-block inside a network in mJ, and the ends of its 90% interval.

        None where no counter told. No counter is fine enough for a sub-block: it is its share of
        the energy of networks, by its latency and its weights.
        """
        if self.energy is None:
            return None
        number = self._costs.number(block, {group_of(block): recipe})
        row = self._costs.rows()[number : number + 1]
        loaded_mb = row[:, COLUMNS.index("loaded_mb")]
        energies = self._energies(self._corrected(row), loaded_mb, np.ones(1))
        middle, low, high = (float(values[0]) for values in energies.values())
        return middle, low, high

    @property
    def groups(self) -> dict[str, int]:
        """Groups of units that were measured, and how many of each."""
        return {name: len(regressor.points) for name, regressor in self._latency.items()}

    @property
    def ms_per_mmac(self) -> float:
        """Usual time of a million multiply-accumulates in float32, for what is not known.

        Of one image, in a run of the batch that was measured.
        """
        float_groups = [r for g, r in self._latency.items() if g.endswith("@float")]
        rates = [
            weight
            for regressor in float_groups or self._latency.values()
            for name, weight in zip(regressor.terms, regressor.weights, strict=True)
            if name == "linear_macs" and weight > 0
        ]
        return float(np.median(rates)) if rates else 0.0

    # Files.

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything that `predict` needs, with units in the names."""
        return {
            "format": NAME,
            "version": FORMAT,
            "units": {"time": "ms", "memory": "10^6 bytes", "terms": "10^6"},
            "device": self.identity,
            "fingerprint": fingerprint(self.identity),
            "recipes": self.recipes,
            "validation": self.validation,
            "anchors": self.pace.to_dict(),
            "energy": self.energy.to_dict() if self.energy else None,
            "correction": self._correction.to_dict(),
            "interval": {"level": LEVEL, "width": self._interval[0], "base": self._interval[1]},
            "memory": self._memory.to_dict(),
            "size": self._size.to_dict(),
            "groups": {name: r.to_dict() for name, r in sorted(self._latency.items())},
        }

    def save(self, path: str | Path) -> None:
        """Write one readable JSON file, atomically.

        Raises:
            RunError: it cannot be written.
        """
        write_atomic(Path(path), json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, path: str | Path) -> CostModel:
        """Read what `save` wrote.

        Raises:
            CostError: no such file, not a cost model, or of a newer version.
        """
        data = read_model(path)
        try:
            return cls.from_dict(data)
        except CostError as error:
            raise CostError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, data: Any) -> CostModel:
        """Inverse of `to_dict`.

        Raises:
            CostError: not a cost model, or of a newer version.
        """
        check_model(data)
        try:
            return cls(
                data["device"],
                data["recipes"],
                {name: Regressor.from_dict(item) for name, item in data["groups"].items()},
                Correction(**data["correction"]),
                (data["interval"]["width"], data["interval"]["base"]),
                MemoryModel(**data["memory"]),
                SizeModel(**data["size"]),
                data["validation"],
                Pace(**data["anchors"]),
                EnergyModel(**data["energy"]) if data["energy"] else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CostError(f"a cost model with something missing or wrong: {error!r}") from error

    # Inside.

    def _parts(self, candidates: Sequence[Candidate]) -> Parts:
        """The units of candidates."""
        index, starts = self._indexer.index(candidates)
        return Parts(self._costs.rows(), index, starts)

    def _measured(self, rows: Iterable[Row]) -> Parts:
        """The units of measured networks."""
        numbers: list[list[int]] = []
        for row in rows:
            book, blocks = row.book, workload(Candidate.from_json(row.key)).sub_blocks
            numbers.append([self._costs.number(block, book) for block in blocks])
        starts = np.cumsum([0, *map(len, numbers[:-1])])
        return Parts(self._costs.rows(), np.concatenate(numbers), starts)

    def _leaving(
        self,
        candidates: Sequence[Candidate],
        parts: Parts,
        known: Mapping[str, tuple[float, ...]],
    ) -> Leaving:
        check_hand_over(self.identity)
        reach, runs, files = np.ones(len(parts.index)), list[float](), list[float]()
        for candidate, start in zip(candidates, parts.starts, strict=True):
            count = sum(1 for _ in exits_in(candidate.architecture))
            told = known.get(candidate.to_json()) if known else None
            shares = reached(told or (EXPECTED,) * count)
            if count:
                ends = np.cumsum([0, *is_exit(candidate)[:-1]])
                reach[start : start + len(ends)] = np.array(shares)[ends]
            runs.append(sum(shares))
            files.append(len(shares))
        return Leaving(reach, np.array(runs), np.array(files, float))

    def _more_ms(self, leaving: Leaving) -> Array:
        """(candidates,) what running more files than one takes: the constant of each, if any."""
        return max(self._correction.constant_ms, 0.0) * (leaving.runs - 1)

    def _corrected(self, rows: Array) -> Array:
        """(units,) time of each inside a whole model, in ms."""
        ms, kind, loaded_mb = (rows[:, COLUMNS.index(n)] for n in ("ms", "kind", "loaded_mb"))
        return self._correction.unit_ms(ms, kind.astype(np.intp), loaded_mb)

    def _energies(self, latency_ms: Array, loaded_mb: Array, wider: Array) -> dict[str, Array]:
        """Energy of runs with its interval, by the names of `Prediction`."""
        if self.energy is None:
            return {}
        energy_mj = self.energy.predict(latency_ms, loaded_mb)
        factor = np.exp(self.energy.half_width * wider)
        return {
            "energy_mj": energy_mj,
            "energy_low_mj": energy_mj / factor,
            "energy_high_mj": energy_mj * factor,
        }
