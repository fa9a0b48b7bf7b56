"""File size: bytes of a model's file, from exact weight bytes and what the graph adds to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tables.latency_table import Row
from ..units.unit import Unit, parse_unit, some

_WHOLE = "graph"  # the feature that every graph has
_PULL = 1e-6  # toward no difference, where samples do not tell
_MOST_FEATURES = 128


@dataclass
class SizeModel:
    """Bytes beside the weights: nodes, names, shapes and masks.

    Attributes:
        kinds: kind and variant of sub-blocks -> what their graphs have beside the weights, by
            feature, in bytes.
        constant_bytes: what a whole model has beside its sub-blocks.
    """

    kinds: dict[str, dict[str, float]] = field(default_factory=dict)
    constant_bytes: float = 0.0

    @classmethod
    def fit(cls, rows: Sequence[Row]) -> SizeModel:
        """Fit to units whose graphs were made."""
        additions: dict[str, list[tuple[list[str], float]]] = {}
        for row in rows:
            if row.graph_bytes:
                unit = parse_unit(row.key)
                rest = row.graph_bytes - unit.weight_bytes - _constant_bytes(unit)
                additions.setdefault(_kind(unit), []).append((_features(unit), rest))
        return cls({name: _additive(samples) for name, samples in additions.items()})

    def with_models(self, models: Sequence[Row], parts: NDArray[np.float64]) -> SizeModel:
        """The same with what a whole network adds to its sub-blocks.

        Args:
            models: rows of whole networks.
            parts: (models,) bytes of weights and graphs of all sub-blocks.
        """
        total = np.array([row.graph_bytes for row in models], float)
        known = total > 0
        if not known.any():
            return self
        return SizeModel(self.kinds, float(np.median((total - parts)[known])))

    def graph_bytes(self, unit: Unit) -> float:
        """Bytes of a unit's graph beside its weights."""
        known = self.kinds.get(_kind(unit), {})
        return sum(known.get(name, 0.0) for name in _features(unit)) + _constant_bytes(unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def untold(units: Iterable[Unit], known: Iterable[Unit]) -> list[Unit]:
    """Units whose sizes do not follow from those of known ones, nor from each other.

    Args:
        units: whose sizes will be predicted.
        known: whose graphs were made.
    """
    chosen: list[Unit] = []
    names: dict[str, int] = {}
    bases: dict[str, list[NDArray[np.float64]]] = {}  # orthonormal, for each kind
    seen: set[tuple[str, ...]] = set()
    for unit, is_new in (*((u, False) for u in known), *((u, True) for u in units)):
        features = _kind(unit), *_features(unit)
        if features in seen:
            continue
        seen.add(features)
        basis = bases.setdefault(features[0], [])
        rest = np.zeros(_MOST_FEATURES)
        rest[[names.setdefault(name, len(names)) for name in features[1:]]] = 1.0
        for vector in basis:
            rest -= (rest @ vector) * vector
        if (length := float(np.linalg.norm(rest))) > 1e-6:
            basis.append(rest / length)
            if is_new:
                chosen.append(unit)
    return chosen


def _kind(unit: Unit) -> str:
    return f"{unit.block.kind}/{unit.block.variant}"


def _features(unit: Unit) -> list[str]:
    """Features that add nodes to a graph: norm, activation, recipe, flags."""
    b, place = unit.block, unit.block.place
    names = [_WHOLE, f"norm={b.norm}", f"recipe={unit.recipe}", *b.flags]
    names += [f"act={place.act}"] if b.kind in ("stem", "mlp") or some(unit.act_elements) else []
    names += ["layout=grid"] if b.layout == "grid" else []
    names += [*unit.nodes, *unit.flags]
    return [*names, "padded"] if b.mixer and b.mixer.pads(place) else names


def _constant_bytes(unit: Unit) -> float:
    """Constants that are no weights: masks, biases gathered at export, tokens that were drawn."""
    place = unit.block.place
    total = 8.0 * place.kept if "random" in unit.block.flags else 0.0
    if unit.block.routing == "random":
        total = 16.0 * unit.block.fed_rows  # as places to take and as places to put back
    mixer = unit.block.mixer
    return total + 4.0 * mixer.constants(place) if mixer else total


def _additive(samples: Sequence[tuple[list[str], float]]) -> dict[str, float]:
    """Bytes that each feature adds; 0 for one that follows from the others."""
    names = list(dict.fromkeys(name for features, _ in samples for name in features))
    design = np.array([[float(name in features) for name in names] for features, _ in samples])
    pull = np.diag([0.0 if name == _WHOLE else _PULL for name in names])
    target = np.array([bytes_ for _, bytes_ in samples])
    bytes_each = np.linalg.solve(design.T @ design + pull, design.T @ target)
    return dict(zip(names, bytes_each.tolist(), strict=True))
