"""Sizes: bytes of a model's file, from exact weight bytes and what the graph adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .table import Row
from .units import Unit, unit_of
from .workload import SubBlock


@dataclass
class SizeModel:
    """Bytes beside the weights: nodes, names, shapes and masks.

    Attributes:
        groups: group of units -> what its graph has beside the weights, by feature, in bytes.
        per_call_bytes: by how much a sub-block inside a network is longer, for its names.
        constant_bytes: what a whole model has beside its sub-blocks.
    """

    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    per_call_bytes: float = 0.0
    constant_bytes: float = 0.0

    @classmethod
    def fit(cls, rows: Sequence[Row]) -> SizeModel:
        """From measured units, each with the size of its graph."""
        found: dict[str, list[tuple[dict[str, float], float]]] = {}
        for row in rows:
            if row.graph_bytes:
                key, _, recipe = row.key.rpartition("@")
                unit = unit_of(SubBlock.parse(key), recipe)
                rest = row.graph_bytes - unit.weight_bytes
                found.setdefault(unit.group, []).append((_features(unit), rest))
        return cls({name: _ridge(samples) for name, samples in found.items()})

    def with_models(
        self, models: Sequence[Row], parts: NDArray[np.float64], calls: NDArray[np.float64]
    ) -> SizeModel:
        """The same with the terms of a whole network fitted.

        Args:
            models: rows of whole networks.
            parts: (models,) bytes of weights and graphs of all sub-blocks.
            calls: (models,) number of sub-blocks.
        """
        total = np.array([row.graph_bytes for row in models], float)
        known = total > 0
        if known.sum() < 2:
            return self
        design = np.column_stack([calls[known], np.ones(known.sum())])
        slope, constant = np.linalg.lstsq(design, (total - parts)[known], rcond=None)[0]
        return SizeModel(self.groups, float(slope), float(constant))

    def graph_bytes(self, unit: Unit) -> float:
        """Bytes of a unit's graph beside its weights."""
        known = self.groups.get(unit.group, {})
        own = sum(known.get(name, 0.0) * value for name, value in _features(unit).items())
        return own + self.per_call_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _features(unit: Unit) -> dict[str, float]:
    """What adds nodes or constants to a graph: flags, kinds of norm and activation, masks."""
    b, place = unit.block, unit.block.place
    found = dict.fromkeys((f"norm={b.norm}", f"act={place.act}", *b.flags), 1.0)
    found["graph"] = 1.0
    if b.variant == "window":
        padded = 1.0
        for length in place.grid:
            padded *= -(-length // place.window) * place.window
        pairs = padded * place.window**2
        found["mask"] = pairs if place.shift else 0.0
        found["shift"] = float(place.shift > 0)
        found["relative"] = float(place.relative)
        if place.relative:  # the bias table is gathered once, at export
            table = (2 * place.window - 1) ** 2
            found["bias"] = place.block.num_heads * (float(place.window**4) - table)
    return found


def _ridge(samples: Sequence[tuple[dict[str, float], float]]) -> dict[str, float]:
    names = list(dict.fromkeys(name for features, _ in samples for name in features))
    design = np.array([[f.get(name, 0.0) for name in names] for f, _ in samples])
    scale = np.maximum(np.abs(design).max(0), 1.0)
    scaled = design / scale
    gram = scaled.T @ scaled + 1e-6 * np.eye(len(names))
    found = np.linalg.solve(gram, scaled.T @ np.array([bytes_ for _, bytes_ in samples])) / scale
    return dict(zip(names, found.tolist(), strict=True))
