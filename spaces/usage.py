"""Usage: the conditions under which a choice has an effect, so that candidates count once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from . import schema
from .architecture import BRANCHED, LED_BY
from .errors import ChoiceError, SpaceError
from .layout import Layout, Site, Test, Values
from .mixers import MIXERS, find


@dataclass(frozen=True, slots=True)
class Use:
    """One site at which a choice may have an effect.

    Attributes:
        reads: the variables on which it depends.
        holds: whether the choice has an effect there.
    """

    reads: tuple[int, ...]
    holds: Test


def find_uses(layout: Layout) -> list[list[Use]]:
    """Uses of each variable; its choice has an effect where any of them holds.

    Raises:
        ChoiceError: one that never has an effect.
        SpaceError: `reparam: true` where nothing can be trained in branches.
    """
    uses_of: list[list[Use]] = [[] for _ in layout.variables]
    for site in layout.sites():
        for name, source in site.sources.items():
            if source < len(layout.variables):
                uses_of[source] += _beside(layout, site, name)
    for choice, uses in zip(layout.variables, uses_of, strict=True):
        if not any(use.holds(v) for use in uses for v in layout.assignments(use.reads)):
            text = f"{choice.name}: unreachable: no candidate has a use for this choice"
            raise ChoiceError(text, choice.name)
    _check_branches(layout)
    return [[Use(u.reads, remembered(layout, u.reads, u.holds)) for u in uses] for uses in uses_of]


def _beside(layout: Layout, site: Site, name: str) -> Iterator[Use]:
    """Uses of the field of one site where its condition holds."""
    condition = site.conditions.get(name)
    for use in uses_at(layout, site, name):
        if condition is None:
            yield use
        else:
            reads = layout.only_variables({*use.reads, *condition.when})
            yield Use(reads, lambda v, u=use, c=condition: c.holds(v) and u.holds(v))


def remembered(layout: Layout, reads: tuple[int, ...], test: Test) -> Test:
    """The same test, evaluated once for each combination of the values that it reads."""
    if not reads:
        always = test(layout.start)
        return lambda _: always
    get, known = itemgetter(*reads), dict[object, bool]()

    def holds(values: Values) -> bool:
        read = get(values)
        answer = known.get(read)
        if answer is None:
            answer = known[read] = test(values)
        return answer

    return holds


def uses_at(layout: Layout, site: Site, name: str) -> Iterator[Use]:
    """The uses of the field of one site."""
    if name == "token_routing":
        for block in (b for stage in layout.blocks for b in stage):
            for part in schema.CAPACITIES:
                if any(share != 1 for share in layout.domain(block.sources[part])):
                    reads = use_parents(layout, block, part) | layout.parents(block, part)
                    yield Use(
                        layout.only_variables(reads),
                        lambda v, b=block, p=part: b.get(p, v) != 1 and in_use(layout, b, p, v),
                    )
    elif name == "reparam":
        yield from branches(layout)
    elif name == "token_reduction":
        for block in (b for stage in layout.blocks for b in stage):
            if may_drop(layout, block):
                yield drop(layout, block)
    elif name == "token_keep_at":
        for block in layout.blocks[site.where[0]]:
            if may_drop(layout, block):
                reads = layout.parents(block, "token_keep", "depth")
                yield Use(
                    layout.only_variables(reads),
                    lambda v, b=block: b.get("token_keep", v) != 1 and layout.exists(b, v),
                )
    else:
        reads = use_parents(layout, site, name)
        yield Use(layout.only_variables(reads), lambda v: in_use(layout, site, name, v))


def in_use(layout: Layout, site: Site, name: str, values: Values) -> bool:
    """Whether a field has an effect at a site."""
    condition = site.conditions.get(name)
    if condition and not condition.holds(values):
        return False
    if site.where == (0,) and name.startswith("downsample"):
        return False  # the first stage has the stem instead
    if name in schema.INSIDE and site.get("downsample", values) not in LED_BY[schema.INSIDE[name]]:
        return False
    most = schema.most_bits(name)
    bits = layout.get(site, _weight_bits(name), values) if most < 32 else 0
    if not site.is_block or name not in schema.BLOCK:
        return bits <= most
    if not layout.exists(site, values):
        return False
    if name == "token_keep":
        at = layout.get(site, "token_keep_at", values)
        return layout.shares_token_keep(site) or schema.kept_at(at, site.where[1])
    has_mlp = site.get("mlp_ratio", values) > 0
    return schema.in_use(name, site.get("mixer", values), has_mlp, bits)


def use_parents(layout: Layout, site: Site, name: str) -> set[int]:
    """The sources that decide whether a field has an effect at a site."""
    condition = site.conditions.get(name)
    reads = set(condition.when) if condition else set[int]()
    if schema.most_bits(name) < 32:
        reads |= layout.parents(site, _weight_bits(name))
    if name in schema.INSIDE:
        reads |= layout.parents(site, "downsample")
    if site.is_block and name in schema.BLOCK:
        reads |= layout.parents(site, "depth")
        if name == "token_keep":
            reads |= layout.parents(site, "token_keep_at")
        elif name != "mixer":
            reads |= layout.parents(site, "mixer")
        if schema.plain(name) != name or name == "mlp_capacity":
            reads |= layout.parents(site, "mlp_ratio")
    return reads


def may_drop(layout: Layout, block: Site) -> bool:
    """Whether any candidate drops tokens in a block."""
    return any(keep != 1 for keep in layout.domain(block.sources["token_keep"]))


def drop(layout: Layout, block: Site) -> Use:
    """Use that tells whether tokens are dropped in a block."""
    reads = layout.parents(block, "token_keep", "token_keep_at", "depth")
    return Use(
        layout.only_variables(reads),
        lambda v: (
            block.get("token_keep", v) != 1
            and schema.kept_at(layout.get(block, "token_keep_at", v), block.where[1])
            and layout.exists(block, v)
        ),
    )


def branches(layout: Layout) -> Iterator[Use]:
    """Uses that tell where there are convolutions that `reparam` trains in branches."""
    network, tests = layout.network, list[tuple[Site, str]]()
    tests += [(network, "stem"), *((stage, "downsample") for stage in layout.stages[1:])]
    for site, name in tests:
        reads = layout.only_variables(site.parents(name))
        yield Use(reads, lambda v, s=site, n=name: s.get(n, v) in BRANCHED[n])
    for block in (b for stage in layout.blocks for b in stage):
        if any(find(str(mixer)).reparam for mixer in layout.domain(block.sources["mixer"])):
            reads = layout.only_variables(layout.parents(block, "mixer", "depth"))
            yield Use(
                reads,
                lambda v, b=block: find(b.get("mixer", v)).reparam and layout.exists(b, v),
            )


def _check_branches(layout: Layout) -> None:
    if layout.domain(layout.network.sources["reparam"]) != (True,):
        return
    if any(use.holds(v) for use in branches(layout) for v in layout.assignments(use.reads)):
        return
    parts = [f"{part} {', '.join(names)}" for part, names in BRANCHED.items()]
    own = ", ".join(name for name in MIXERS if find(name).reparam)
    raise SpaceError(
        "reparam: true: nothing in this space can be trained in branches; what can is "
        f"{', '.join(parts)}, mixer {own}"
    )


def _weight_bits(name: str) -> str:
    return f"{name.removesuffix(schema.plain(name))}weight_bits"
