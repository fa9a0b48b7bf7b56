"""Layout: a space file, read and checked, as numbered variables and where they are used.

Every field of the network, of each stage and of each block finds its source: the innermost
position in the file that names it, or its default. Sources are positions in one list of values,
variables first and constants after, so that a block's fields are fetched in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from operator import itemgetter
from typing import Any, cast

from . import schema
from .architecture import even_halvings
from .block import Block
from .codec import mapping, scalar, sequence
from .compression import Policy
from .errors import SpaceError, did_you_mean
from .exits import NONE
from .parameter import Choice, Scalar

MAX_BLOCKS = 512
RUN_KEYS = ("space", "data", "device", "start", "search", "budget")
RUN_FILE = "Files of runs have it, and `vitpareto search` takes them; a space is their key space"
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

    def assignments(self, sources: Sequence[int]) -> Iterator[Values]:
        """The list of values under every combination of some variables."""
        values = self.start.copy()
        for combination in product(*(self.domain(source) for source in sources)):
            for source, value in zip(sources, combination, strict=True):
                values[source] = value
            yield values


def read_layout(spec: Mapping[str, Any]) -> Layout:
    """Read a space file's mapping.

    Raises:
        SpaceError: naming the key, the rule and what was given.
    """
    return _Reader(mapping(spec, "space")).layout


class _Reader:
    """Walks the mapping once, from the outside in, and numbers what it finds."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.listed: list[tuple[str, tuple[Scalar, ...]]] = []
        extra = ("name", "description", "stages", "conditions", "forbidden")
        network = self.position(spec, "", 0, extra)
        raw_stages = sequence(spec.get("stages"), "stages")
        self.fixed = Site((), self.sources(schema.NETWORK, [network], ""))
        self.stages: list[Site] = []
        self.blocks: list[list[Site]] = []
        for index, raw in enumerate(raw_stages):
            self.stage(index, raw, network)
        variables = [Choice(name, values) for name, values in self.listed if len(values) > 1]
        self.renumber()
        start = [c.values[0] for c in variables]
        start += [values[0] for _, values in self.listed if len(values) == 1]
        self.layout = Layout(variables, start, self.fixed, self.stages, self.blocks, [])
        for index, raw in enumerate(_optional_list(spec, "conditions")):
            self.condition(raw, f"conditions.{index}")
        for index, raw in enumerate(_optional_list(spec, "forbidden")):
            self.forbid(raw, f"forbidden.{index}")

    def position(
        self, raw: Mapping[str, Any], prefix: str, outermost: int, extra: Sequence[str] = ()
    ) -> dict[str, int]:
        """Number the choices written at one position of the file: field -> source."""
        sources: dict[str, int] = {}
        for name, value in raw.items():
            if name in extra:
                continue
            own = schema.level(name)
            path = f"{prefix}{name}"
            if own is None:
                known = [*schema.names(), *extra]
                hint = RUN_FILE if path in RUN_KEYS else did_you_mean(name, known)
                raise SpaceError(f"{path}: unknown name. {hint}")
            if own < outermost:
                level = ("the top of the file", "a stage")[own]
                raise SpaceError(f"{path}: belongs to {level}; further in it has no meaning")
            sources[name] = len(self.listed)
            self.listed.append((path, read_values(name, value, path)))
        return sources

    def stage(self, index: int, raw: object, network: dict[str, int]) -> None:
        """Number a stage's choices, then those of its groups and blocks."""
        where = f"stages.{index}"
        raw = mapping(raw, where)
        prefix = f"stages.{index}."
        stage = self.position(raw, prefix, 1, ("groups", "blocks"))
        sources = self.sources(schema.STAGE, [stage, network], prefix)
        for name in ("depth", "width"):
            if not all(self.listed[sources[name]][1]):
                raise SpaceError(f"{where}.{name}: must be given, there or at the top")
        depth = max(cast("tuple[int, ...]", self.listed[sources["depth"]][1]))
        if sum(map(len, self.blocks)) + depth > MAX_BLOCKS:
            raise SpaceError(f"{where}.depth: at most {MAX_BLOCKS} blocks in all, got {depth}")
        groups = dict(mapping(raw.get("groups", {"size": 1}), f"{where}.groups"))
        size = groups.pop("size", None)
        if not isinstance(size, int) or size < 1:
            raise SpaceError(f"{where}.groups.size: need a number of blocks, got {size!r}")
        turns = _turns(raw.get("blocks", {}), f"{where}.blocks")
        self.stages.append(Site((index,), sources))
        self.blocks.append([])
        group: dict[str, int] = {}
        for j in range(depth):
            if j % size == 0:
                group = self.position(groups, f"{prefix}groups.{j // size}.", 2)
            own = self.position(turns[j % len(turns)], f"{prefix}blocks.{j}.", 2)
            positions = [own, group, stage, network]
            here = self.sources(schema.BLOCK, positions, f"{prefix}blocks.{j}.")
            self.blocks[index].append(Site((index, j), here))

    def sources(
        self, names: Mapping[str, Scalar], positions: Sequence[dict[str, int]], prefix: str
    ) -> dict[str, int]:
        """Field -> source: a specific name before a general one, inner before outer."""
        sources: dict[str, int] = {}
        for name, default in names.items():
            general = schema.plain(name) if names is schema.BLOCK else name
            for wanted, position in product((name, general), positions):
                if wanted in position:
                    sources[name] = position[wanted]
                    break
            else:
                sources[name] = len(self.listed)
                self.listed.append((f"{prefix}{name}", (default,)))
        return sources

    def renumber(self) -> None:
        """Number variables first, then constants, each in the order of the file."""
        order = sorted(range(len(self.listed)), key=lambda s: len(self.listed[s][1]) == 1)
        new = {old: position for position, old in enumerate(order)}
        sites = [self.fixed, *self.stages, *(site for stage in self.blocks for site in stage)]
        for site in sites:
            site.sources = {name: new[source] for name, source in site.sources.items()}
            site.__post_init__()

    def condition(self, raw: object, where: str) -> None:
        """Attach `{choice: NAME, when: {NAME: VALUES}}` to the sites that have the choice."""
        raw = mapping(raw, where)
        if set(raw) != {"choice", "when"}:
            raise SpaceError(f"{where}: need the names 'choice' and 'when', got {sorted(raw)}")
        level = schema.level(str(raw["choice"]))
        if level is None:
            hint = did_you_mean(str(raw["choice"]), schema.names())
            raise SpaceError(f"{where}.choice: unknown name {raw['choice']!r}. {hint}")
        when = self.clause(raw["when"], f"{where}.when", level)
        for name in schema.specific(raw["choice"]):
            part = name.partition("_")[0]
            tests = {f"{part}_{n}" if n in schema.POLICY else n: v for n, v in when.items()}
            if name in tests:
                raise SpaceError(f"{where}.when: {name} cannot depend on itself")
            unknown = [n for n in tests if schema.level(n) is None]
            if unknown:
                raise SpaceError(
                    f"{where}.when: write mixer_ or mlp_ before {unknown[0][len(part) + 1 :]!r}"
                )
            for site in self.at(level):
                sources = {
                    self.layout.enclosing(site, n).sources[n]: some for n, some in tests.items()
                }
                site.conditions[name] = Condition(sources, schema.default(schema.plain(name)))
            for test, values in tests.items():
                self.must_occur(test, values, f"{where}.when.{test}")

    def must_occur(self, name: str, values: tuple[Scalar, ...], where: str) -> None:
        """Refuse a condition that no value of the space can meet."""
        sites = self.at(cast("int", schema.level(name)))
        domain = {value for site in sites for value in self.layout.domain(site.sources[name])}
        if not domain & set(values):
            raise SpaceError(
                f"{where}: never holds, so the choice is unreachable: the space has "
                f"{_list(sorted(domain, key=str))}, the condition wants {_list(values)}"
            )

    def forbid(self, raw: object, where: str) -> None:
        """Attach `{NAME: VALUES, ...}` to every site where all the names meet."""
        clause = self.clause(raw, where, 2)
        for part in ("mixer", "mlp") if set(clause) & set(schema.POLICY) else ("",):
            names = {f"{part}_{n}" if n in schema.POLICY else n: v for n, v in clause.items()}
            level = max(cast("int", schema.level(name)) for name in names)
            self.layout.forbidden += [(site, names) for site in self.at(level)]

    def clause(self, raw: object, where: str, level: int) -> dict[str, tuple[Scalar, ...]]:
        """Read `{NAME: VALUES}` whose names are at most at a level."""
        allowed: dict[str, tuple[Scalar, ...]] = {}
        for name, value in mapping(raw, where).items():
            own = schema.level(name)
            if own is None:
                raise SpaceError(
                    f"{where}.{name}: unknown name. {did_you_mean(name, schema.names())}"
                )
            if own > level:
                raise SpaceError(f"{where}.{name}: differs between blocks, the choice does not")
            allowed[name] = read_values(name, value, f"{where}.{name}")
        if not allowed:
            raise SpaceError(f"{where}: need at least one name, got {raw!r}")
        return allowed

    def at(self, level: int) -> list[Site]:
        """All sites of a level."""
        blocks = [site for stage in self.blocks for site in stage]
        return ([self.fixed], self.stages, blocks)[level]


def read_values(name: str, raw: object, where: str) -> tuple[Scalar, ...]:
    """`a`, `[a, b]` or `{low, high, step}` as a tuple of values of the field's type."""
    if isinstance(raw, dict):
        raw = _range(cast("dict[str, Any]", raw), where)
    listed = cast("list[object]", raw) if isinstance(raw, list) else [raw]
    if not listed:
        raise SpaceError(f"{where}: an empty choice; give at least one value")
    values = tuple(_scalar(name, value, where) for value in listed)
    if len(set(values)) != len(values):
        raise SpaceError(f"{where}: values must be all different, got {_list(values)}")
    if len(values) > 1 and schema.is_fixed(name):
        raise SpaceError(f"{where}: takes one value, not a choice, got {_list(values)}")
    return values


def _range(raw: dict[str, Any], where: str) -> list[object]:
    if not {"low", "high"} <= set(raw) <= {"low", "high", "step"}:
        raise SpaceError(f"{where}: a range needs low, high and maybe step, got {sorted(raw)}")
    low, high, step = raw["low"], raw["high"], raw.get("step", 1)
    numbers = (low, high, step)
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise SpaceError(f"{where}: low, high and step must be numbers, got {numbers}")
    if not (low <= high and step > 0 and (high - low) / step < 10_000):
        raise SpaceError(
            f"{where}: need low <= high and step > 0, at most 10000 values, got {numbers}"
        )
    count = int((high - low) / step + 1e-9) + 1
    return [round(low + step * k, 10) if isinstance(step, float) else low + step * k
            for k in range(count)]  # fmt: skip


def _scalar(name: str, raw: object, where: str) -> Scalar:
    if name == "token_keep_at":
        return _positions(raw, where)
    if name == "exits":
        return _exits(raw, where)
    return scalar(schema.plain(name), raw, type(schema.default(name)), where)


def _positions(raw: object, where: str) -> str:
    parts = str(raw).split(",") if isinstance(raw, str | int) else []
    if not all(part.strip().isdecimal() for part in parts) or not parts:
        raise SpaceError(f'{where}: need block indices such as 3 or "3,6,9", got {raw!r}')
    return ",".join(str(index) for index in sorted({int(part) for part in parts}))


def _turns(raw: object, where: str) -> list[Mapping[str, Any]]:
    """Positions of blocks: one for all of them, or several that take turns."""
    if not isinstance(raw, list):
        return [mapping(raw, where)]
    if not raw:
        raise SpaceError(f"{where}: an empty list; give what at least one block has")
    return [mapping(one, f"{where}.{i}") for i, one in enumerate(cast("list[object]", raw))]


def _exits(raw: object, where: str) -> str:
    if raw == NONE:
        return NONE
    parts = str(raw).split(",") if isinstance(raw, str | int) else []
    blocks = sorted({int(part) for part in parts if part.strip().isdecimal()})
    if len(blocks) < len(parts) or not blocks or blocks[0] < 1:
        raise SpaceError(
            f"{where}: need numbers of blocks after which a head may answer, such as 4 or "
            f'"4,8", or {NONE}, got {raw!r}'
        )
    return ",".join(map(str, blocks))


def _optional_list(spec: Mapping[str, Any], name: str) -> list[Any]:
    return sequence(spec[name], name) if name in spec else []


def _list(values: Sequence[Scalar]) -> str:
    return ", ".join(repr(value) for value in values)
