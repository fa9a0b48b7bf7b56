"""Narrowing: a space without some of its values, or some of their combinations.

What is dropped leaves the lists of the space file, so that everything that draws from the space,
counts it or shares its weights goes without. What then has no effect, or no value left to choose
from, leaves it too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import schema
from .codec import CHOICES
from .errors import ChoiceError, SpaceError
from .parameter import Scalar
from .space import SearchSpace
from .space_file import by_part, read_layout, read_values
from .usage import in_use, use_parents

Clause = Mapping[str, Scalar]  # names of a space file, each with a value, that meet in a block
BITS = (32, 16, 8, 4)


def without(space: SearchSpace, clauses: Iterable[Clause]) -> SearchSpace:
    """The space without candidates in which all values of any clause meet.

    Raises:
        ChoiceError: somewhere that is all there is to choose from.
        SpaceError: no candidate is left.
    """
    spec, dropped = copy.deepcopy(space.spec), list[tuple[str, Scalar]]()
    for clause in clauses:
        if len(clause) > 1:
            forbidden = {name: [value] for name, value in clause.items()}
            if forbidden not in spec.setdefault("forbidden", []):
                spec["forbidden"].append(forbidden)
            continue
        ((general, value),) = clause.items()
        for name in schema.specific(general):
            dropped.append((name, value))
            for path, key, holder in _places(spec, name):
                _drop(holder, key, value, path)
    while True:
        _drop_conditions(spec)
        try:
            narrowed = space if spec == space.spec else SearchSpace(spec)
            _check_defaults(spec, dropped)
            return narrowed
        except ChoiceError as error:  # what else follows from what was dropped
            if not error.choice:
                raise
            holder, key = _holder(spec, error.choice)
            if error.value is None:
                holder[key] = read_values(key, holder[key], error.choice)[0]
            else:
                _drop(holder, key, error.value, error.choice)


def alternatives(
    space: SearchSpace, name: str, value: Scalar
) -> Iterator[tuple[Scalar, SearchSpace]]:
    """Other values of a name, each with the space that has it wherever it had the one given."""
    for other in CHOICES.get(name, BITS if schema.plain(name) == "weight_bits" else ()):
        spec = copy.deepcopy(space.spec)
        if other == value or not _replace(spec, name, value, other):
            continue
        try:
            yield other, SearchSpace(spec)
        except SpaceError:
            continue


def values_of(space: SearchSpace, name: str) -> list[Scalar]:
    """All values that a space file gives a name, wherever it stands."""
    given = (read_values(key, holder[key], path) for path, key, holder in _places(space.spec, name))
    return list(dict.fromkeys(value for values in given for value in values))


def _places(spec: dict[str, Any], name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, key and mapping of everything in a space file that settles a name."""
    for prefix, holder in _holders(spec):
        for key in dict.fromkeys((name, schema.plain(name))):
            if key in holder:
                yield f"{prefix}{key}", key, holder


def _holders(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping that names choices, and where it is."""
    yield "", spec
    for i, stage in enumerate(spec["stages"]):
        yield f"stages.{i}.", stage
        for inner in ("groups", "blocks"):
            if isinstance(turns := stage.get(inner), list):
                yield from ((f"stages.{i}.{inner}.{k}.", one) for k, one in enumerate(turns))
            elif inner in stage:
                yield f"stages.{i}.{inner}.", stage[inner]


def _holder(spec: dict[str, Any], choice: str) -> tuple[dict[str, Any], str]:
    """Mapping and key of a parameter by its name, such as "stages.0.blocks.3.mixer"."""
    *path, key = choice.split(".")
    holder: Any = spec
    for part in path:
        if isinstance(holder, list):  # of stages, or of blocks that take turns
            holder = holder[int(part) % len(holder)]
        elif not part.isdecimal():  # the number of a block or group, whose position is for all
            holder = holder[part]
    return holder, key


def _drop(holder: dict[str, Any], key: str, value: Scalar, path: str) -> None:
    """Drop a value of a choice.

    Raises:
        ChoiceError: it is the only one.
    """
    values = read_values(key, holder[key], path)
    kept = [other for other in values if other != value]
    if not kept:
        raise ChoiceError(f"{path}: {value!r} is the only choice")
    if len(kept) < len(values):
        holder[key] = kept if len(kept) > 1 else kept[0]


def _check_defaults(spec: dict[str, Any], dropped: Iterable[tuple[str, Scalar]]) -> None:
    """Check that no value that was dropped is left where the file leaves a name to its default.

    Raises:
        ChoiceError: one is, and has an effect there.
    """
    layout = read_layout(spec)
    for name, value in dropped:
        for site in layout.sites():
            if value not in (layout.domain(site.sources[name]) if name in site.sources else ()):
                continue
            reads = layout.only_variables(use_parents(layout, site, name))
            if any(in_use(layout, site, name, values) for values in layout.assignments(reads)):
                path = "".join(f"stages.{i}." for i in site.where[:1])
                raise ChoiceError(f"{path}{name}: {value!r}, the default, is the only choice")


def _replace(spec: dict[str, Any], name: str, value: Scalar, other: Scalar) -> bool:
    """Put a value in the place of another wherever that stands; whether it did anywhere."""
    done = False
    places = list(_places(spec, name))
    for path, key, holder in places:
        values = read_values(key, holder[key], path)
        if value in values:
            new = list(dict.fromkeys(other if v == value else v for v in values))
            holder[key] = new if len(new) > 1 else new[0]
            done = True
    if not places and schema.default(schema.plain(name)) == value:
        spec[name] = other
        done = True
    return done


def _drop_conditions(spec: dict[str, Any]) -> None:
    """Drop what can no longer hold: forbidden clauses, and conditions with their choices."""
    layout = read_layout({n: v for n, v in spec.items() if n not in ("conditions", "forbidden")})

    def may_be(raw: object, *names: str) -> bool:
        return any(set(read_values(name, raw, name)) & layout.values_of(name) for name in names)

    kept: list[Mapping[str, Any]] = []
    for condition in spec.pop("conditions", []):
        if all(may_be(raw, *schema.specific(n)) for n, raw in condition["when"].items()):
            kept.append(condition)
            continue
        for _, holder in _holders(spec):
            holder.pop(condition["choice"], None)
    clauses = [
        clause
        for clause in spec.pop("forbidden", [])
        if any(all(may_be(raw, n) for n, raw in own.items()) for own in by_part(clause))
    ]
    spec |= {name: left for name, left in (("conditions", kept), ("forbidden", clauses)) if left}
