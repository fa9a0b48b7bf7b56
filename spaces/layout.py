"""Layout: a space as numbered variables and where they are used.

Every field of the network, of each stage and of each block has a source, which is a position in one
list of values, variables first and constants after, so that a block's fields are fetched in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from operator import itemgetter
from typing import Any

from . import schema
from .architecture import even_halvings
from .block import Block
from .compression import Policy
from .parameter import Choice, Scalar

Values = list[Any]
Test = Callable[[Values], bool]


@dataclass(slots=True)
class Condition:
    """A field exists only when others, by source, have one of some values."""

    when: dict[int, tuple[Scalar, ...]]
    default: Scalar

    def holds(self, values: Values) -> bool:
        """Whether the field exists for these values."""
        return all(values[source] in some for source, some in self.when.items())


@dataclass(slots=True)
class Site:
    """Part of a space where fields take effect: the network, a stage, or a block.

    Attributes:
        where: () for the network, (i,) for a stage, (i, j) for a block.
        sources: field -> position in the list of values.
        conditions: field -> when it exists.
    """

    where: tuple[int, ...]
    sources: dict[str, int]
    conditions: dict[str, Condition] = field(default_factory=dict)
    _fetch: Callable[[Values], tuple[Any, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self._fetch = itemgetter(*self.sources.values())

    @property
    def is_block(self) -> bool:
        """Whether this is a block's site."""
        return len(self.where) == 2

    def fetch(self, values: Values) -> tuple[Any, ...]:
        """The fields in the order of `sources`, absent ones at their default."""
        fields = self._fetch(values)
        if self.conditions:
            fields = tuple(
                value
                if name not in self.conditions or self.conditions[name].holds(values)
                else self.conditions[name].default
                for name, value in zip(self.sources, fields, strict=True)
            )
        return fields

    def get(self, name: str, values: Values) -> Any:
        """One field."""
        condition = self.conditions.get(name)
        if condition and not condition.holds(values):
            return condition.default
        return values[self.sources[name]]

    def parents(self, name: str) -> set[int]:
        """Sources on which a field's value depends."""
        condition = self.conditions.get(name)
        return {self.sources[name], *(condition.when if condition else ())}


@dataclass(slots=True)
class Layout:
    """All sites of a space and the list of values they share.

    Attributes:
        variables: the choices with more than one value, outermost first.
        start: first value of every variable, then the constants.
        network: the network's site.
        stages: a site a stage.
        blocks: a site for each block that the deepest stage can have.
        forbidden: clauses of the file, one site's sources -> values that must not meet.
    """

    variables: list[Choice]
    start: Values
    network: Site
    stages: list[Site]
    blocks: list[list[Site]]
    forbidden: list[tuple[Site, dict[str, tuple[Scalar, ...]]]]

    def sites(self) -> Iterator[Site]:
        """The network, then each stage followed by its blocks."""
        yield self.network
        for stage, blocks in zip(self.stages, self.blocks, strict=True):
            yield stage
            yield from blocks

    def enclosing(self, site: Site, name: str) -> Site:
        """The site that settles a field: the site itself, its stage or the network."""
        if name in site.sources:
            return site
        return self.stages[site.where[0]] if name in schema.STAGE else self.network

    def get(self, site: Site, name: str, values: Values) -> Any:
        """A field as seen from a site, looking outwards."""
        return self.enclosing(site, name).get(name, values)

    def parents(self, site: Site, *names: str) -> set[int]:
        """The sources on which some fields depend, as seen from a site."""
        return {p for name in names for p in self.enclosing(site, name).parents(name)}

    def halvings(self, stage: int) -> int:
        """How often the grid was halved before a stage; no choice says that."""
        return sum(self.start[s.sources["stride"]] == 2 for s in self.stages[1 : stage + 1])

    def even_halvings(self) -> int:
        """How often the grid is halved up to the last time that its side must be even."""
        return even_halvings(
            (self.start[s.sources["stride"]], self.domain(s.sources["downsample"]))
            for s in self.stages[1:]
        )

    def exists(self, site: Site, values: Values) -> bool:
        """Whether a block's site is within the depth of its stage."""
        return not site.is_block or site.where[1] < self.get(site, "depth", values)

    def only_variables(self, sources: Iterable[int]) -> tuple[int, ...]:
        """The choices among some sources, in order."""
        return tuple(sorted(source for source in sources if source < len(self.variables)))

    def shares_token_keep(self, site: Site) -> bool:
        """Whether `token_keep` is one choice for all blocks of a block's or stage's stage."""
        first, *others = self.blocks[site.where[0]]
        own = (first.sources["token_keep"], first.conditions.get("token_keep"))
        return all(
            own == (block.sources["token_keep"], block.conditions.get("token_keep"))
            for block in others
        )

    def build_block(self, site: Site, values: Values) -> tuple[Block, Policy, Policy]:
        """Block and policies at a block's site; see `schema.build_block`."""
        stage = self.stages[site.where[0]]
        width, keep_at = stage.get("width", values), stage.get("token_keep_at", values)
        j = site.where[1]
        may_drop = schema.kept_at(keep_at, j)
        return schema.build_block(j % 2 == 1, width, may_drop, site.fetch(values))

    def domain(self, source: int) -> tuple[Scalar, ...]:
        """The values that a source can have; one for a constant."""
        if source < len(self.variables):
            return self.variables[source].values
        return (self.start[source],)

    def values_of(self, name: str) -> set[Scalar]:
        """Values that a name has anywhere, its default where that is left to it."""
        sites = (site for site in self.sites() if len(site.where) == schema.level(name))
        return {value for site in sites for value in self.domain(site.sources[name])}

    def assignments(self, sources: Sequence[int]) -> Iterator[Values]:
        """The list of values under every combination of some variables."""
        values = self.start.copy()
        for combination in product(*(self.domain(source) for source in sources)):
            for source, value in zip(sources, combination, strict=True):
                values[source] = value
            yield values
