"""Constraints: the rules and clauses of a space as small tables over its variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from . import schema
from .block import Block
from .counting import Factor, count
from .errors import SpaceError
from .layout import Layout, Site, Values, enclosing
from .mixers import find
from .rules import BLOCK_RULES, GRID_LOST, NETWORK_RULES, Rule, explain

Test = Callable[[Values], bool]


@dataclass(slots=True)
class Constraint:
    """A test of the values, and the variables that it reads.

    `holds` works on any list of values; `table`, where there is one, answers faster.
    """

    reads: tuple[int, ...]
    holds: Test
    reason: str = ""


def block_at(layout: Layout, site: Site, values: Values) -> tuple[Any, ...]:
    """Block and policies at a block's site; see `schema.build_block`."""
    stage = layout.stages[site.where[0]]
    width, keep_at = stage.get("width", values), stage.get("token_keep_at", values)
    return schema.build_block(site.where[1], width, keep_at, site.fetch(values))


class Constraints:
    """Everything that the values of a space must satisfy, tabulated.

    Args:
        layout: the space.

    Raises:
        SpaceError: a combination that never works, or a value that no candidate can have.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tabled: list[Constraint] = []
        for site in layout.sites():
            rules = (NETWORK_RULES, (), BLOCK_RULES)[len(site.where)]
            for rule in rules:
                self._rule(site, rule)
        for stage, blocks in zip(layout.stages, layout.blocks, strict=True):
            self._positions(stage, len(blocks))
        for site, clause in layout.forbidden:
            self._forbid(site, clause)
        self.whole_grid = list(self._whole_grid())
        self._effect()

    def checks(self) -> list[list[tuple[tuple[int, ...], Test]]]:
        """For each variable, the tests that can be made once it has a value."""
        found: list[list[tuple[tuple[int, ...], Test]]] = [[] for _ in self.layout.variables]
        for reads, table in self._merged().items():
            if len(reads) == 1:
                test: Test = lambda values, r=reads[0], t={k[0]: v for k, v in table.items()}: t[values[r]]  # noqa: E501, E731
            else:
                test = lambda values, get=itemgetter(*reads), t=table: t[get(values)]  # noqa: E731
            found[max(reads)].append((reads, test))
        for constraint in self.whole_grid:
            if constraint.reads:
                found[max(constraint.reads)].append((constraint.reads, constraint.holds))
        return found

    def _merged(self) -> dict[tuple[int, ...], dict[tuple[Any, ...], bool]]:
        """One table for all constraints that read the same variables."""
        tables: dict[tuple[int, ...], dict[tuple[Any, ...], bool]] = {}
        for constraint in self.tabled:
            reads = constraint.reads
            old = tables.get(reads, {})
            tables[reads] = {
                key: old.get(key, True) and constraint.holds(values)
                for values in self.layout.assignments(reads)
                for key in [tuple(values[r] for r in reads)]
            }
        return tables

    # What the rules of `rules.py` mean for the variables of this space.

    def _rule(self, site: Site, rule: Rule) -> None:
        reads = set[int]()
        for name in rule.fields:
            for feed in schema.FEEDS.get(name, (name,)):
                reads |= self._parents(site, feed)
        if len(site.where) == 2:
            reads |= self._parents(site, "depth")
        stages = len(self.layout.stages)

        def built(values: Values) -> dict[str, Any]:
            found: dict[str, Any] = {"stages": stages}
            block: Block | None = None
            if len(site.where) == 2:
                found["stage"] = site.where[0]
                block = block_at(self.layout, site, values)[0]
            for name in rule.fields:
                if name == "grid":
                    size, patch = (self._value(site, n, values) for n in ("input_size", "patch_size"))
                    found[name] = size // patch >> site.where[0]
                elif block is not None and hasattr(block, name):
                    found[name] = getattr(block, name)
                elif name not in found:
                    found[name] = self._value(site, name, values)
            return found

        def holds(values: Values) -> bool:
            if len(site.where) == 2 and site.where[1] >= self._value(site, "depth", values):
                return True
            found = built(values)
            return rule.holds(*(found[name] for name in rule.fields))

        self._add(reads, holds, lambda values: explain(rule, built(values)), self._name(site))

    def _positions(self, stage: Site, depth: int) -> None:
        """Positions of `token_keep_at` must exist, or two texts would mean one candidate."""
        reads = self._parents(stage, "token_keep_at") | self._parents(stage, "depth")

        def holds(values: Values) -> bool:
            at = schema.positions(stage.get("token_keep_at", values))
            return max(at, default=-1) < stage.get("depth", values)

        self._add(
            reads,
            holds,
            lambda values: f"token_keep_at {stage.get('token_keep_at', values)!r} is beyond the "
            f"last of {stage.get('depth', values)} blocks, which are counted from 0",
            self._name(stage),
        )

    def _forbid(self, site: Site, clause: dict[str, tuple[Any, ...]]) -> None:
        reads = set[int]()
        for name in clause:
            reads |= self._parents(site, name) | self._use_parents(site, name)

        def holds(values: Values) -> bool:
            return not all(
                self._value(site, name, values) in some and self._in_use(site, name, values)
                for name, some in clause.items()
            )

        text = ", ".join(f"{n}: {list(v) if len(v) > 1 else v[0]}" for n, v in clause.items())
        self._add(reads, holds, lambda _: f"forbidden: {{{text}}}", self._name(site), False)

    def _add(
        self,
        reads: set[int],
        holds: Test,
        reason: Callable[[Values], str],
        where: str,
        every_value: bool = True,
    ) -> None:
        """Keep a constraint that some combination breaks; refuse one that none satisfies."""
        layout = self.layout
        variables = tuple(sorted(r for r in reads if layout.is_variable(r)))
        possible: dict[int, set[Any]] = {v: set() for v in variables}
        broken = ""
        for values in layout.assignments(variables):
            if holds(values):
                for v in variables:
                    possible[v].add(values[v])
            else:
                broken = broken or reason(values)
        if not broken:
            return
        if not all(possible.values()) or not variables:
            raise SpaceError(f"{where}: {broken}")
        for v in variables if every_value else ():
            choice = layout.variables[v]
            dead = [value for value in choice.values if value not in possible[v]]
            if dead:
                raise SpaceError(f"{choice.name}: no candidate can have {dead[0]!r}: {broken}")
        self.tabled.append(Constraint(variables, holds, broken))

    # Tokens that were dropped in one block are missing in all later ones.

    def _whole_grid(self) -> Iterator[Constraint]:
        """In the last stage, a mixer that needs the grid must not come after a reduction."""
        sites = self.layout.blocks[-1]
        reads = set[int]()
        for j, site in enumerate(sites):
            here = self._parents(site, "mixer") | self._parents(site, "depth")
            needy = any(find(str(m)).needs_grid for m in self.layout.domain(site.sources["mixer"]))
            if needy and reads:
                variables = {r for r in reads | here if self.layout.is_variable(r)}
                test = self._grid_test(sites[:j], site)
                if not variables and not test(self.layout.start):
                    lost = GRID_LOST.format(mixer=site.get("mixer", self.layout.start))
                    raise SpaceError(f"{self._name(site)}: {lost}")
                yield Constraint(tuple(sorted(variables)), test)
            if self._may_drop(site):
                reads |= self._drop_parents(site)

    def _grid_test(self, before: list[Site], site: Site) -> Test:
        droppers = [other for other in before if self._may_drop(other)]
        return lambda values: (
            site.where[1] >= self._value(site, "depth", values)
            or not find(site.get("mixer", values)).needs_grid
            or not any(self._drops(other, values) for other in droppers)
        )

    def _may_drop(self, site: Site) -> bool:
        return any(keep != 1 for keep in self.layout.domain(site.sources["token_keep"]))

    def _drop_parents(self, site: Site) -> set[int]:
        return (
            self._parents(site, "token_keep")
            | self._parents(site, "token_keep_at")
            | self._parents(site, "depth")
        )

    def _drops(self, site: Site, values: Values) -> bool:
        return (
            site.get("token_keep", values) != 1
            and schema.kept_at(self._value(site, "token_keep_at", values), site.where[1])
            and site.where[1] < self._value(site, "depth", values)
        )

    # When a choice has an effect at all.

    def uses(self) -> list[list[Constraint]]:
        """For each variable, tests of which one must hold for the variable to have an effect."""
        found: list[list[Constraint]] = [[] for _ in self.layout.variables]
        for site in self.layout.sites():
            for name, source in site.sources.items():
                if self.layout.is_variable(source):
                    for consumer in self._consumers(site, name):
                        found[source].append(consumer)
        return found

    def _consumers(self, site: Site, name: str) -> Iterator[Constraint]:
        blocks = [b for stage in self.layout.blocks for b in stage]
        if name == "token_reduction":
            droppers = [b for b in blocks if self._may_drop(b)]
            tests = [(self._drop_parents(b), lambda v, b=b: self._drops(b, v)) for b in droppers]
        elif name == "token_keep_at":
            droppers = [b for b in self.layout.blocks[site.where[0]] if self._may_drop(b)]
            tests = [
                (
                    self._parents(b, "token_keep") | self._parents(b, "depth"),
                    lambda v, b=b: b.get("token_keep", v) != 1
                    and b.where[1] < self._value(b, "depth", v),
                )
                for b in droppers
            ]
        else:
            tests = [
                (self._use_parents(site, name), lambda v: self._in_use(site, name, v)),
            ]
        for reads, test in tests:
            variables = tuple(sorted(r for r in reads if self.layout.is_variable(r)))
            yield Constraint(variables, test)

    def _effect(self) -> None:
        """Refuse a choice that never has an effect."""
        for choice, consumers in zip(self.layout.variables, self.uses(), strict=True):
            if not any(
                consumer.holds(values)
                for consumer in consumers
                for values in self.layout.assignments(consumer.reads)
            ):
                raise SpaceError(f"{choice.name}: unreachable: no candidate has a use for it")

    def _in_use(self, site: Site, name: str, values: Values) -> bool:
        condition = site.conditions.get(name)
        if condition and not condition.holds(values):
            return False
        bits_name = f"{name.partition('_')[0]}_weight_bits"
        bits = self._value(site, bits_name, values) if schema.plain(name) == "act_bits" else 32
        if len(site.where) < 2:
            return schema.plain(name) != "act_bits" or bits <= 8
        if name in schema.BLOCK:
            return (
                site.where[1] < self._value(site, "depth", values)
                and (name != "token_keep" or self._kept_here(site, values))
                and schema.in_use(
                    name, site.get("mixer", values), site.get("mlp_ratio", values) > 0, bits
                )
            )
        return True

    def _kept_here(self, site: Site, values: Values) -> bool:
        return schema.kept_at(self._value(site, "token_keep_at", values), site.where[1])

    def _use_parents(self, site: Site, name: str) -> set[int]:
        condition = site.conditions.get(name)
        reads = set(condition.when) if condition else set[int]()
        if schema.plain(name) == "act_bits":
            reads |= self._parents(site, f"{name.partition('_')[0]}_weight_bits")
        if len(site.where) == 2 and name in schema.BLOCK:
            for parent in ("depth", "mixer", "mlp_ratio"):
                reads |= self._parents(site, parent)
            if name == "token_keep":
                reads |= self._parents(site, "token_keep_at")
            if schema.plain(name) == name and name not in ("mixer", "token_keep"):
                reads -= self._parents(site, "mlp_ratio")
        return reads

    # Looking a field up from a site.

    def _value(self, site: Site, name: str, values: Values) -> Any:
        return enclosing(self.layout, site, name).get(name, values)

    def _parents(self, site: Site, name: str) -> set[int]:
        return enclosing(self.layout, site, name).parents(name)

    def _name(self, site: Site) -> str:
        names = ("stages", "blocks")
        return ".".join(f"{n}[{i}]" for n, i in zip(names, site.where, strict=False)) or "space"

    # Counting.

    def count(self) -> int:
        """Number of different candidates.

        A choice without effect counts once: only its first value is admitted. "Some block uses
        it" and "an earlier block dropped tokens" run along the blocks, so each becomes a chain
        of two-valued variables, which keeps every table small.
        """
        layout = self.layout
        sizes = {v: len(choice.values) for v, choice in enumerate(layout.variables)}
        factors: list[Factor] = []

        def factor(reads: tuple[int, ...], extra: tuple[int, ...], test: Callable[..., bool]) -> None:
            """A table over variables and two-valued extras; `test(values, *extras)`."""
            shape = [len(layout.domain(v)) for v in reads] + [2] * len(extra)
            cells = [
                test(values, *bits)
                for values in layout.assignments(reads)
                for bits in np.ndindex(*[2] * len(extra))
            ]
            factors.append(((*reads, *extra), np.array(cells, dtype=int).reshape(shape)))

        def chain(links: list[Constraint], last: int = -1) -> int:
            """A new variable that tells whether `last` or any of the links holds."""
            for link in links:
                new = len(sizes)
                sizes[new] = 2
                if last < 0:
                    factor(link.reads, (new,), lambda v, n, t=link.holds: bool(n) == t(v))
                else:
                    factor(
                        link.reads,
                        (last, new),
                        lambda v, old, n, t=link.holds: bool(n) == (bool(old) or t(v)),
                    )
                last = new
            return last

        for constraint in self.tabled:
            factor(constraint.reads, (), constraint.holds)
        for variable, consumers in enumerate(self.uses()):
            if any(not c.reads and c.holds(layout.start) for c in consumers):
                continue
            first = layout.domain(variable)[0]
            used = chain(consumers)
            factor((variable,), (used,), lambda v, u, i=variable, f=first: bool(u) or v[i] == f)
        self._count_grid(chain, factor)
        return count(sizes, factors)

    def _count_grid(self, chain: Callable[..., int], factor: Callable[..., None]) -> None:
        if not self.whole_grid:
            return
        sites = self.layout.blocks[-1]
        links: list[Constraint] = []
        dropped = -1
        for site in sites:
            reads = self._parents(site, "mixer") | self._parents(site, "depth")
            variables = tuple(sorted(r for r in reads if self.layout.is_variable(r)))
            if links:
                dropped = chain(links, dropped)
                links = []
                factor(
                    variables,
                    (dropped,),
                    lambda v, lost, s=site: not lost
                    or s.where[1] >= self._value(s, "depth", v)
                    or not find(s.get("mixer", v)).needs_grid,
                )
            if self._may_drop(site):
                drops = self._drop_parents(site)
                reads = tuple(sorted(r for r in drops if self.layout.is_variable(r)))
                links.append(Constraint(reads, lambda v, s=site: self._drops(s, v)))
