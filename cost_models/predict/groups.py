"""Groups: the regressors of a table, one for each group of units."""

from __future__ import annotations

from ..tables.anchors import geometric
from ..tables.latency_table import LatencyTable
from ..units.precision_recipes import kernel_recipe
from ..units.unit import Unit, parse_unit
from .regressor import Regressor


def fit_groups(table: LatencyTable) -> dict[str, Regressor]:
    """A regressor for every group of units in a table."""
    rows = list(table.of_kind("unit"))
    groups: dict[str, dict[str, tuple[Unit, list[float]]]] = {}
    for row, level in zip(rows, table.levels(rows), strict=True):
        unit = parse_unit(row.key)
        if kernel_recipe(unit.recipe, str(table.identity.get("runtime"))) != unit.recipe:
            continue  # runs the kernels of another recipe, which has rows of its own
        groups.setdefault(unit.group, {}).setdefault(unit.key, (unit, []))[1].append(level)
    return {
        name: Regressor.fit(
            [unit.terms for unit, _ in members.values()],
            [unit.numbers for unit, _ in members.values()],
            [geometric(levels) for _, levels in members.values()],
        )
        for name, members in groups.items()
    }
