"""Space file: a mapping, read and checked, as the layout of its choices.

Every field of the network, of each stage and of each block finds its source: the innermost
position in the file that names it, or its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypeVar, cast

from . import schema
from .codec import mapping, scalar, sequence
from .errors import SpaceError, did_you_mean
from .exits import NONE
from .layout import Condition, Layout, Site
from .parameter import Choice, Scalar

T = TypeVar("T")

MAX_BLOCKS = 512
RUN_KEYS = ("space", "data", "device", "start", "search", "budget")
RUN_FILE = "Files of runs have it, and `vitpareto search` takes them; a space is their key space"


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
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
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
                if name in site.conditions:
                    raise SpaceError(
                        f"{where}.choice: {name} has a condition already; give all that it depends "
                        "on in one `when`"
                    )
                sources = {
                    self.layout.enclosing(site, n).sources[n]: some for n, some in tests.items()
                }
                site.conditions[name] = Condition(sources, schema.default(schema.plain(name)))
            if missing := self.missing(tests):
                raise SpaceError(
                    f"{where}.when.{missing}: never holds, so the choice is unreachable: the space "
                    f"has {self.known(missing)}, the condition wants {_list(tests[missing])}"
                )

    def missing(self, tests: Mapping[str, tuple[Scalar, ...]]) -> str:
        """The first name that has none of its values anywhere; empty where all may hold."""
        return next((n for n, v in tests.items() if not self.layout.values_of(n) & {*v}), "")

    def known(self, name: str) -> str:
        """Values that a name has anywhere, for messages."""
        return _list(sorted(self.layout.values_of(name), key=str))

    def forbid(self, raw: object, where: str) -> None:
        """Attach `{NAME: VALUES, ...}` to every site where all the names meet."""
        clause = self.clause(raw, where, 2)
        clauses = by_part(clause)
        missing = [self.missing(names) for names in clauses]
        if all(missing):
            raise SpaceError(
                f"{where}.{missing[0]}: never holds: the space has {self.known(missing[0])}, the "
                f"clause wants {_list(clauses[0][missing[0]])}"
            )
        for names in clauses:
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


def by_part(clause: Mapping[str, T]) -> list[dict[str, T]]:
    """A forbidden clause, or one for mixers and one for MLPs where it names what both have."""
    parts = ("mixer", "mlp") if {*clause} & {*schema.POLICY} else ("",)
    return [
        {f"{part}_{n}" if n in schema.POLICY else n: v for n, v in clause.items()} for part in parts
    ]


def read_values(name: str, raw: object, where: str) -> tuple[Scalar, ...]:
    """`a`, `[a, b]` or `{low, high, step}` as a tuple of values of the field's type.

    Args:
        name: of the field.
        raw: what the file says.
        where: path of the key, for errors.

    Raises:
        SpaceError: no value, one twice, several of a fixed field, or one of another type.
    """
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
    if "step" not in raw and any(isinstance(n, float) for n in numbers):
        raise SpaceError(f"{where}: a range of fractions needs a step, got {low} to {high}")
    count = int((high - low) / step + 1e-9) + 1
    *values, above = (
        round(low + step * k, 10) if isinstance(step, float) else low + step * k
        for k in range(count + 1)
    )
    if abs(high - values[-1]) > 1e-6 * step:  # else it would be lost without a word
        raise SpaceError(
            f"{where}: in steps of {step} from {low}, high must be {values[-1]} or {above}, "
            f"got {high}"
        )
    return values


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
