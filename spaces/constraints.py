"""Constraints: the rules and forbidden clauses of a space as small tables over its variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from . import schema
from .architecture import HALVING, halved
from .counting import FactorGraph
from .errors import ChoiceError, SizeError, SpaceError
from .layout import Layout, Site, Test, Values
from .mixers import MIXERS, block_defaults, find, numbers
from .mixers.spec import Rule
from .rules import GRID_LOST, NETWORK_RULES, STAGE_RULES, block_rules, explain
from .usage import Use, drop, find_uses, in_use, may_drop, remembered, use_parents

Table = dict[tuple[Any, ...], bool]
Check = tuple[tuple[int, ...], Test]


class Constraints:
    """Everything that the values of a space must satisfy.

    Args:
        layout: the space.

    Attributes:
        uses: for each variable, where it has an effect.

    Raises:
        SpaceError: a combination that never works, or a value that no candidate can have.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tables: dict[tuple[int, ...], Table] = {}
        for site in layout.sites():
            for rule in (NETWORK_RULES, STAGE_RULES, block_rules())[len(site.where)]:
                self._add_rule(site, rule)
            if site.is_block:
                self._check_numbers(site)
        for stage in layout.stages:
            self._add_positions(stage)
            self._check_inside(stage)
        for site, clause in layout.forbidden:
            self._add_forbidden(site, clause)
        for site in layout.sites():
            self._check_conditions(site)
        self.uses = find_uses(layout)
        self._check_fixed_tokens()
        self._check_relative()

    def checks(self) -> list[list[Check]]:
        """Tests of each variable that can be made once it has a value, and what they read."""
        checks: list[list[Check]] = [[] for _ in self.layout.variables]
        for reads, table in self.tables.items():
            checks[max(reads)].append((reads, _lookup(reads, table)))
        for reads, test, _ in self._grid_tests():
            if reads:
                checks[max(reads)].append((reads, remembered(self.layout, reads, test)))
        return checks

    def count(self) -> int:
        """Number of different candidates; a choice without effect counts once."""
        graph = FactorGraph(self.layout)
        for reads, table in self.tables.items():
            graph.require(reads, [], _lookup(reads, table))
        for variable, uses in enumerate(self.uses):
            if any(not use.reads and use.holds(self.layout.start) for use in uses):
                continue
            used = graph.any_of((use.reads, use.holds) for use in uses)
            first = self.layout.domain(variable)[0]
            graph.require([variable], [used], lambda v, u, i=variable, f=first: u or v[i] == f)
        dropped: int | None = None
        for site, earlier in self._droppers():
            if earlier:
                dropped = graph.any_of([(use.reads, use.holds) for use in earlier], dropped)
            if dropped is not None:
                reads = self.layout.only_variables(self.layout.parents(site, "mixer", "depth"))
                graph.require(
                    reads, [dropped], lambda v, lost, s=site: not (lost and self._needs_grid(s, v))
                )
        return graph.count()

    # The rules of `rules.py`, for the variables of this space.

    def _add_rule(self, site: Site, rule: Rule) -> None:
        feeds = [f for name in rule.fields for f in schema.feeds(name)]
        if site.is_block:
            feeds.append("depth")

        def holds(values: Values) -> bool:
            if not self.layout.exists(site, values):
                return True
            return rule.holds(*self._built(site, rule.fields, values).values())

        self._add(
            site,
            self.layout.parents(site, *feeds),
            holds,
            lambda values: explain(rule, self._built(site, rule.fields, values)),
            SizeError if {"input_size", "grid"} & {*rule.fields} else SpaceError,
        )

    def _built(self, site: Site, names: tuple[str, ...], values: Values) -> dict[str, Any]:
        """Numbers as built: of the block, or of what surrounds it."""
        layout = self.layout
        block = layout.build_block(site, values)[0] if site.is_block else None
        numbers: dict[str, Any] = {}
        for name in names:
            if name == "stages":
                numbers[name] = len(layout.stages)
            elif name == "stage":
                numbers[name] = site.where[0]
            elif name == "halvings":
                numbers[name] = layout.even_halvings()
            elif name == "grid":
                size, patch = (layout.get(site, n, values) for n in ("input_size", "patch_size"))
                numbers[name] = halved(size // patch, layout.halvings(site.where[0]))
            elif block is not None and name in block_defaults():
                numbers[name] = getattr(block, name)
            else:
                numbers[name] = layout.get(site, name, values)
        return numbers

    def _add_positions(self, stage: Site) -> None:
        """Require one spelling of where tokens are dropped, so that no two mean one candidate."""
        layout = self.layout
        first = layout.blocks[stage.where[0]][0]
        shared = layout.shares_token_keep(stage)
        if not shared and len(layout.domain(stage.sources["token_keep_at"])) > 1:
            raise SpaceError(
                f"{_path(stage)}.token_keep_at: is a choice, so token_keep must be one for the "
                "stage, not one for each block"
            )

        def last(values: Values) -> int:
            return max(schema.positions(stage.get("token_keep_at", values)), default=-1)

        def unused(values: Values) -> bool:
            return shared and first.get("token_keep", values) == 1

        self._add(
            stage,
            layout.parents(stage, "token_keep_at", "depth")
            | (layout.parents(first, "token_keep") if shared else set()),
            lambda values: unused(values) or last(values) < stage.get("depth", values),
            lambda values: (
                f"token_keep_at {last(values)} is beyond the last of "
                f"{stage.get('depth', values)} blocks, which are counted from 0"
            ),
        )

    def _add_forbidden(self, site: Site, clause: dict[str, tuple[Any, ...]]) -> None:
        reads = self.layout.parents(site, *clause)
        for name in clause:
            reads |= use_parents(self.layout, self.layout.enclosing(site, name), name)

        def holds(values: Values) -> bool:
            return not all(
                self.layout.get(site, name, values) in some
                and in_use(self.layout, self.layout.enclosing(site, name), name, values)
                for name, some in clause.items()
            )

        text = ", ".join(f"{name}: {list(some)}" for name, some in clause.items())
        self._add(site, reads, holds, lambda _: f"forbidden: {{{text}}}")

    def _add(
        self,
        site: Site,
        reads: set[int],
        holds: Test,
        reason: Callable[[Values], str],
        error: type[SpaceError] = SpaceError,
    ) -> None:
        """Tabulate a constraint; refuse it if a value can never meet it."""
        variables = self.layout.only_variables(reads)
        table: Table = {}
        broken = ""
        for values in self.layout.assignments(variables):
            fine = table[tuple(values[v] for v in variables)] = holds(values)
            if not fine and not broken:
                broken = reason(values)
        if not broken:
            return
        if not any(table.values()):
            raise error(f"{_path(site)}: {broken}")
        for axis, v in enumerate(variables):
            choice = self.layout.variables[v]
            for value in choice.values:
                if not any(fine for key, fine in table.items() if key[axis] == value):
                    text = f"{choice.name}: no candidate can have {value!r}: {broken}"
                    raise (
                        error(text) if error is SizeError else ChoiceError(text, choice.name, value)
                    )
        old = self.tables.get(variables, {})
        self.tables[variables] = {k: fine and old.get(k, True) for k, fine in table.items()}

    # What a space must not leave open.

    def _check_numbers(self, site: Site) -> None:
        """Require one spelling of equal numbers."""
        layout = self.layout
        spelled = {n.name: n.field for n in numbers().values() if n.build or n.axis}
        for built, name in (spelled | {"mlp_hidden": "mlp_ratio"}).items():
            feeds = layout.only_variables(layout.parents(site, *schema.feeds(built)))
            source = site.sources[name]
            seen: dict[tuple[Any, ...], Any] = {}
            for values in layout.assignments(feeds):
                if not in_use(layout, site, name, values):
                    continue
                block = layout.build_block(site, values)[0]
                key = (getattr(block, built), *(values[f] for f in feeds if f != source))
                if seen.setdefault(key, values[source]) != values[source]:
                    raise SpaceError(
                        f"{_path(site)}.{name}: {seen[key]} and {values[source]} both give "
                        f"{built} {key[0]}: two names for one network"
                    )

    def _check_inside(self, stage: Site) -> None:
        """Require one spelling of equal numbers of what leads to a stage."""
        if not stage.where[0]:
            return
        layout, before = self.layout, self.layout.stages[stage.where[0] - 1]
        for name in schema.INSIDE:
            feeds = layout.parents(stage, name, "downsample") | before.parents("width")
            reads, source = layout.only_variables(feeds), stage.sources[name]
            seen: dict[tuple[Any, ...], Any] = {}
            for values in layout.assignments(reads):
                if not in_use(layout, stage, name, values):
                    continue
                value, width = stage.get(name, values), before.get("width", values)
                built = schema.inside(name, value, width)
                key = (built, *(values[read] for read in reads if read != source))
                if seen.setdefault(key, value) != value:
                    raise SpaceError(
                        f"{_path(stage)}.{name}: {seen[key]} and {value} are both {built} beside a "
                        f"width of {width}: two names for one network"
                    )

    def _check_conditions(self, site: Site) -> None:
        """Require that what a condition tests has an effect, so that no candidate has two forms."""
        layout = self.layout
        around = [layout.network, *(layout.stages[i] for i in site.where[:1]), site]
        for name, condition in site.conditions.items():
            for source in layout.only_variables(condition.when):
                tested = [(s, n) for s in around for n, own in s.sources.items() if own == source]
                reads = use_parents(layout, site, name)
                reads = reads.union(*(use_parents(layout, *use) for use in tested))
                for values in layout.assignments(layout.only_variables(reads)):
                    if in_use(layout, site, name, values) and not any(
                        in_use(layout, *use, values) for use in tested
                    ):
                        raise SpaceError(
                            f"conditions: {layout.variables[source].name} has no effect in some "
                            f"candidates that have a {name}, which depends on it; add what it "
                            "depends on itself to `when`"
                        )

    def _check_fixed_tokens(self) -> None:
        """Refuse to share weights tied to one token count, or a stem tied to one patch size."""
        layout = self.layout
        sizes = {n: layout.domain(layout.network.sources[n]) for n in ("input_size", "patch_size")}
        for site in (b for stage in layout.blocks for b in stage):
            for mixer in layout.domain(site.sources["mixer"]):
                for name, values in sizes.items():
                    if find(str(mixer)).fixed_tokens and len(values) > 1:
                        raise SpaceError(
                            f"{_path(site)}.mixer: {mixer!r} has weights for one number of "
                            f"tokens, but {name} is a choice of {list(values)}"
                        )
        patches = sizes["patch_size"]
        stems = layout.domain(layout.network.sources["stem"])
        if len(patches) > 1 and (halving := [stem for stem in HALVING if stem in stems]):
            raise SpaceError(
                f"patch_size: a {halving[0]} stem has layers for one patch size, "
                f"got {list(patches)}"
            )

    def _check_relative(self) -> None:
        """Require one spelling of no positions: what is relative is a bias of some mixers."""
        layout = self.layout
        known = layout.domain(layout.network.sources["pos_embed"])
        blocks = (block for stage in layout.blocks for block in stage)
        mixers = {str(m) for block in blocks for m in layout.domain(block.sources["mixer"])}
        if {"none", "relative"} <= {*known} and not any(find(mixer).relative for mixer in mixers):
            own = ", ".join(name for name in MIXERS if find(name).relative)
            raise ChoiceError(
                "pos_embed: 'none' and 'relative' are two names for one network where no mixer "
                f"adds a bias by position, as {own} do",
                *("pos_embed", "relative"),
            )

    # Tokens that were dropped in one block are missing in all later ones.

    def _droppers(self) -> Iterator[tuple[Site, list[Use]]]:
        """Blocks of the last stage, each with the drop of the block right before it, if any."""
        sites = self.layout.blocks[-1]
        for before, site in zip([None, *sites], sites, strict=False):
            may = before is not None and may_drop(self.layout, before)
            yield site, [drop(self.layout, before)] if before is not None and may else []

    def _grid_tests(self) -> Iterator[tuple[tuple[int, ...], Test, Site]]:
        """Tests that no earlier block dropped tokens, for each block that may need the grid."""
        earlier: list[Use] = []
        for site, just_before in self._droppers():
            earlier = earlier + just_before
            mixers = self.layout.domain(site.sources["mixer"])
            if not earlier or not any(find(str(mixer)).needs_grid for mixer in mixers):
                continue
            reads = self.layout.parents(site, "mixer", "depth")
            reads |= {r for use in earlier for r in use.reads}
            test = self._grid_test(site, earlier)
            variables = self.layout.only_variables(reads)
            if not variables and not test(self.layout.start):
                raise SpaceError(f"{_path(site)}: {GRID_LOST.format(mixer=mixers[0])}")
            yield variables, test, site

    def _grid_test(self, site: Site, earlier: list[Use]) -> Test:
        return lambda v: not (self._needs_grid(site, v) and any(use.holds(v) for use in earlier))

    def _needs_grid(self, site: Site, values: Values) -> bool:
        return self.layout.exists(site, values) and find(site.get("mixer", values)).needs_grid


def _lookup(reads: tuple[int, ...], table: Table) -> Test:
    if len(reads) == 1:  # itemgetter returns no tuple for one item
        one = reads[0]
        single = {key[0]: fine for key, fine in table.items()}
        return lambda values: single[values[one]]
    get = itemgetter(*reads)
    return lambda values: table[get(values)]


def _path(site: Site) -> str:
    names = ("stages", "blocks")
    return ".".join(f"{n}.{i}" for n, i in zip(names, site.where, strict=False)) or "space"
