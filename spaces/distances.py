"""Distances: the values of a space's choices that a candidate has, or is nearest to."""

from __future__ import annotations

from typing import Any

from . import schema
from .architecture import LED_BY
from .candidate import Candidate
from .layout import Layout, Site
from .mixers import find
from .mixers.spec import Given, kept_units
from .parameter import Scalar


class Distances:
    """Distance of a variable's values from what a candidate has instead."""

    def __init__(self, layout: Layout, candidate: Candidate) -> None:
        self.architecture = candidate.architecture
        self.compression = candidate.compression
        self.layout = layout
        self.fields = [list[tuple[Site, str]]() for _ in layout.variables]
        self.values: dict[int, Scalar] = {}
        for site in layout.sites():
            for name, source in site.sources.items():
                if source < len(layout.variables):
                    self.fields[source].append((site, name))

    def of(self, v: int, value: Scalar) -> float:
        """Smallest distance over the sites where the variable has an effect in the candidate."""
        distances = [
            distance
            for site, name in self.fields[v]
            if (distance := self.at(site, name, value)) is not None
        ]
        return min(distances, default=0.0)

    def nearest(self, source: int) -> Scalar:
        """The value that the candidate has, or is nearest to."""
        if source not in self.values:
            domain = self.layout.domain(source)
            self.values[source] = domain[0]  # for conditions that depend on each other
            if len(domain) > 1:
                self.values[source] = min(domain, key=lambda value: self.of(source, value))
        return self.values[source]

    def exists(self, site: Site, name: str) -> bool:
        """Whether the condition of a field holds at a site, if there is one."""
        condition = site.conditions.get(name)
        return not condition or all(
            self.nearest(source) in some for source, some in condition.when.items()
        )

    def said(self, site: Site, name: str) -> Scalar:
        """Value of a field in the space file, which differs from the number that is built of it."""
        if self.exists(site, name):
            return self.nearest(site.sources[name])
        return site.conditions[name].default

    def at(self, site: Site, name: str, value: Scalar) -> float | None:
        """Distance at one site; None where the field has no effect."""
        if not self.exists(site, name):
            return None
        return (self._network, self._stage, self._block)[len(site.where)](site.where, name, value)

    def _network(self, where: tuple[int, ...], name: str, value: Scalar) -> float:
        part, _, field = name.partition("_")
        if name in schema.ARCHITECTURE:
            return _distance(getattr(self.architecture, name), value)
        return _distance(getattr(getattr(self.compression, part), field), value)

    def _stage(self, where: tuple[int, ...], name: str, value: Scalar) -> float | None:
        if where[0] >= len(self.architecture.stages):
            return None
        stage = self.architecture.stages[where[0]]
        if where == (0,) and name.startswith("downsample"):
            return None
        if name == "depth":
            return _distance(len(stage.blocks), value)
        if name == "token_keep_at":
            at = {j for j, block in enumerate(stage.blocks) if block.token_keep < 1}
            return float(len(at ^ schema.positions(str(value))))
        if name in schema.INSIDE:
            return self._inside(where[0], name, value)
        if name.startswith("downsample_"):
            policy = self.compression.stages[where[0]].downsample
            return _distance(getattr(policy, name.removeprefix("downsample_")), value)
        if name == "stage_act":
            return _distance(stage.act, value)
        return _distance(getattr(stage, name), value)

    def _inside(self, i: int, name: str, value: Any) -> float | None:
        """Distance of a number of a downsampling."""
        before, stage = self.architecture.stages[i - 1].width, self.architecture.stages[i]
        field = schema.INSIDE[name]
        if not i or stage.downsample not in LED_BY[field]:
            return None
        return _distance(getattr(stage, field), schema.inside(name, value, before))

    def _block(self, where: tuple[int, ...], name: str, value: Any) -> float | None:
        i, j = where
        if i >= len(self.architecture.stages) or j >= len(self.architecture.stages[i].blocks):
            return None
        width, block = self.architecture.stages[i].width, self.architecture.stages[i].blocks[j]
        policies = {p: getattr(self.compression.stages[i], p)[j] for p in ("mixer", "mlp")}
        part = name.partition("_")[0]
        bits = policies[part].weight_bits if part in policies and part != name else 32
        if not schema.in_use(name, block.mixer, block.mlp_hidden > 0, bits):
            return None
        cut = policies["mixer"].prune_ratio
        own = find(block.mixer).numbers
        number = next((number for number in own if number.field == name), None)
        if number:
            site = self.layout.blocks[i][j]
            fields = {read: self.said(site, read) for read in number.reads if read in site.sources}
            given = Given(fields, width, j % 2 == 1)
            return _distance(getattr(block, number.name), number.make(value, given, cut))
        if name == "mlp_ratio":
            ratio = cut if find(block.mixer).is_mlp else policies["mlp"].prune_ratio
            return abs(kept_units(int(width * value), ratio) - block.mlp_hidden)
        if name == "token_keep":
            # A block that keeps all may only stand outside of `token_keep_at`: ask it last.
            return abs(block.token_keep - value) + (block.token_keep == 1)
        if schema.plain(name) != name:
            return _distance(getattr(policies[part], schema.plain(name)), value)
        return _distance(getattr(block, name), value)


def _distance(left: Any, right: Any) -> float:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return abs(left - right)
    return float(left != right)
