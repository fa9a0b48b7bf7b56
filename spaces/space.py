"""SearchSpace: a space file, and all answers about it that need no network."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, cast

from . import schema
from .architecture import Architecture, Stage
from .candidate import Candidate
from .compression import Compression, Policy, StagePolicy
from .constraints import Constraints
from .distances import Distances
from .errors import ConfigError, SizeError, SpaceError, did_you_mean
from .layout import Values
from .mixers import find
from .parameter import Choice, Scalar
from .safe_yaml import dump_yaml, parse_yaml, read_yaml
from .sizes import at_size, sizes_near, split_size
from .solver import Order, solve
from .space_file import read_layout
from .usage import in_use

PRESETS = Path(__file__).parents[1] / "configs" / "spaces"


class SearchSpace:
    """A finite set of candidates, described by a mapping as in `configs/spaces/*.yaml`.

    Args:
        spec: the mapping of a space file.

    Attributes:
        name: the file's `name`.
        description: the file's `description`; of a preset at another size, what that changes.
        parameters: the choices with more than one value, outermost first.

    Raises:
        SpaceError: naming the key, the rule and what was given.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec: dict[str, Any] = dict(spec)
        self.name = str(spec.get("name", "space"))
        self.description = str(spec.get("description", ""))
        self._layout = read_layout(spec)
        self._constraints = Constraints(self._layout)
        self._checks = self._constraints.checks()
        self._uses = self._constraints.uses
        self.parameters: tuple[Choice, ...] = tuple(self._layout.variables)
        self._names = {choice.name for choice in self.parameters}
        self._orders: list[dict[Scalar | None, Sequence[Scalar]]] = [
            {None: self._descending(v)} | {value: choice.nearest(value) for value in choice.values}
            for v, choice in enumerate(self.parameters)
        ]
        try:
            self._complete(lambda v: self.parameters[v].values)
        except SpaceError:
            if self.size == 0:
                raise SpaceError("forbidden: no candidate is left") from None
            raise

    # Reading and writing.

    @classmethod
    def from_yaml(cls, path: str | Path) -> SearchSpace:
        """Read a space file, or a preset by its name; NAME@PIXELS is one for other images.

        Raises:
            ConfigError: the file cannot be read or is not YAML, or a preset has no such size.
            SpaceError: naming file, key, rule and what was given.
        """
        name, size = (str(path), None) if is_file_name(path) else split_size(str(path))
        if size and is_file_name(name):
            raise ConfigError(f"{path}: only presets have other sizes: set input_size in {name}")
        file = find_file(name, PRESETS, "space")
        spec = {"name": file.stem} | read_yaml(file)
        return cls._read_from(at_size(spec, size) if size else spec, str(file))

    @classmethod
    def from_text(cls, text: str, source: str = "space") -> SearchSpace:
        """Read the text of a space file; `source` names it in errors."""
        return cls._read_from({"name": source} | parse_yaml(text, source), source)

    @classmethod
    def _read_from(cls, spec: dict[str, Any], source: str) -> SearchSpace:
        try:
            return cls(spec)
        except SizeError as error:
            sizes = " or ".join(map(str, sizes_near(spec, cls._can_be)))
            hint = f"; input_size {sizes} would do" if sizes else ""
            raise SizeError(f"{source}: {error}{hint}") from None
        except SpaceError as error:
            raise SpaceError(f"{source}: {error}") from None

    @classmethod
    def _can_be(cls, spec: Mapping[str, Any]) -> bool:
        try:
            return bool(cls(spec))
        except SpaceError:
            return False

    def to_yaml(self) -> str:
        """The space as a file; reading it gives an equal space."""
        return dump_yaml(self.spec)

    def replace(self, **fields: Scalar) -> SearchSpace:
        """The same space with some top-level names changed, such as `num_classes`."""
        return SearchSpace(self.spec | fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.spec == other.spec

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return SearchSpace, (self.spec,)  # all else follows from it, tests of choices included

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.parameters)} choices)"

    # The five verbs.

    @cached_property
    def size(self) -> int:
        """Exact number of different candidates."""
        return self._constraints.count()

    def sample(self, n: int = 1, seed: int = 0) -> list[Candidate]:
        """Independent candidates; each choice is uniform among what the earlier ones leave."""
        rng = random.Random(seed)
        return [self.draw(rng) for _ in range(n)]

    def draw(self, rng: random.Random) -> Candidate:
        """One random candidate."""
        return self._build(self._complete(lambda v: _shuffled(self.parameters[v].values, rng)))

    def contains(self, candidate: Candidate) -> bool:
        """Whether the candidate is in the space."""
        try:
            return self.repair(candidate) == candidate
        except SpaceError:
            return False

    __contains__ = contains

    def repair(self, candidate: Candidate) -> Candidate:
        """The candidate itself if it is in the space, else one near to it that is."""
        orders = self._read(candidate)
        return self._build(self._complete(lambda v: orders[v]))

    def candidate(self, assignment: Mapping[str, Scalar]) -> Candidate:
        """The candidate of named choices, repaired where they cannot meet.

        Args:
            assignment: name of a parameter -> value; what is not given is as in `largest`.

        Raises:
            SpaceError: a name that no parameter has.
        """
        return self._build(self._nearest(assignment))

    def assignment(self, candidate: Candidate) -> dict[str, Scalar]:
        """Inverse of `candidate`: the choices that have an effect, by name.

        Raises:
            SpaceError: the candidate is not in the space.
        """
        return self._active(self._values(candidate))

    def settings(self, candidate: Candidate) -> dict[tuple[int, ...], dict[str, Scalar]]:
        """The names of a space file that have an effect, with their values, wherever they have.

        Returns:
            () for the network, (i,) for each stage, (i, j) for each block -> name -> value.

        Raises:
            SpaceError: the candidate is not in the space.
        """
        values, layout = self._values(candidate), self._layout
        return {
            site.where: {
                name: site.get(name, values)
                for name in site.sources
                if in_use(layout, site, name, values)
            }
            for site in layout.sites()
            if layout.exists(site, values)
        }

    def resolve(self, assignment: Mapping[str, Scalar]) -> tuple[Candidate, dict[str, Scalar]]:
        """`candidate(assignment)` and its `assignment`, in a fraction of the time of both."""
        values = self._nearest(assignment)
        return self._build(values), self._active(values)

    def neighbors(self, candidate: Candidate) -> list[Candidate]:
        """All candidates that differ in one choice, and in what that choice forces."""
        values = self._values(candidate)
        neighbors: dict[str, Candidate] = {}
        for v, choice in enumerate(self.parameters):
            if self._used(v, values):
                for value in choice.values:
                    if value != values[v] and (other := self._change(values, {v: (value,)})):
                        neighbors[other.key] = other
        neighbors.pop(candidate.key, None)
        return list(neighbors.values())

    def mutate(self, candidate: Candidate, rng: random.Random, rate: float = 0.1) -> Candidate:
        """Redraw each choice with probability `rate`, at least one; draw what had no effect yet."""
        values = self._values(candidate)
        used = [v for v in range(len(self.parameters)) if self._used(v, values)]
        chosen = [v for v in used if rng.random() < rate] or ([rng.choice(used)] if used else [])
        changes: dict[int, Sequence[Scalar]] = {
            v: (rng.choice(self.parameters[v].values),) for v in chosen
        }
        for v, choice in enumerate(self.parameters):
            if v not in used:
                changes[v] = rng.sample(choice.values, len(choice.values))
        return self._change(values, changes) or candidate

    def largest(self) -> Candidate:
        """The candidate with the most of everything, uncompressed if the space allows."""
        return self.candidate({})

    def smallest(self) -> Candidate:
        """The candidate with the least of everything."""
        orders = [list(reversed(self._descending(v))) for v in range(len(self.parameters))]
        return self._build(self._complete(lambda v: orders[v]))

    def covering(self) -> Iterator[Candidate]:
        """Candidates that together have every parameter of the space's networks at its largest.

        For every combination of the network's kinds (norm, activation, ...): the largest
        network, and for each value of every other field the largest in which that field has
        that value wherever it can; then the same for each mixer with each value of its numbers,
        as fewer heads can mean larger ones. After them all come those in which a choice that had
        to give way to earlier ones comes first.
        """
        fields = [choice.name.rpartition(".")[2] for choice in self.parameters]
        kinds = [
            v
            for v, choice in enumerate(self.parameters)
            if choice.name in schema.NETWORK and isinstance(choice.values[0], str | bool)
        ]
        wanted: dict[tuple[str, Scalar], None] = {("", ""): None}
        for v, choice in enumerate(self.parameters):
            if v not in kinds:
                wanted |= {(fields[v], value): None for value in choice.values}
        wishes = (
            [{field: value} for field, value in wanted],
            [
                {"mixer": mixer, field: value}
                for is_mixer, mixer in wanted
                for field, value in wanted
                if is_mixer == "mixer" and field in find(str(mixer)).spelled
            ],
        )
        largest = [self._descending(v) for v in range(len(self.parameters))]
        missed: list[list[Sequence[Scalar]]] = []
        combinations = [*product(*(self.parameters[v].values for v in kinds))]
        for several, combination in product(wishes, combinations):
            forced = dict(zip(kinds, combination, strict=True))
            for wish in several:
                orders: list[Sequence[Scalar]] = [
                    [forced[v]]
                    if v in forced
                    else [wish[fields[v]], *order]
                    if wish.get(fields[v]) in self.parameters[v].values
                    else order
                    for v, order in enumerate(largest)
                ]
                with suppress(SpaceError):  # not every combination can meet
                    values = self._complete(orders.__getitem__)
                    yield self._build(values)
                    missed += [
                        [*orders[:v], [better], *orders[v + 1 :]]
                        for v, order in enumerate(orders)
                        for better in order[: order.index(values[v])]
                    ]
        for orders in missed:
            with suppress(SpaceError):
                yield self._build(self._complete(orders.__getitem__))

    # Values that satisfy every constraint.

    def _complete(self, order: Order) -> Values:
        return solve(self._layout.start, self._checks, order)

    def _change(self, values: Values, changes: Mapping[int, Sequence[Scalar]]) -> Candidate | None:
        """The nearest candidate to `values` with others for some of them; None if there is none."""
        try:
            return self._build(
                self._complete(lambda v: changes.get(v) or self.parameters[v].nearest(values[v]))
            )
        except SpaceError:
            return None

    def _used(self, v: int, values: Values) -> bool:
        """Whether a choice has an effect."""
        return any(use.holds(values) for use in self._uses[v])

    def _active(self, values: Values) -> dict[str, Scalar]:
        return {c.name: values[v] for v, c in enumerate(self.parameters) if self._used(v, values)}

    def _nearest(self, assignment: Mapping[str, Scalar]) -> Values:
        """Values of `candidate`.

        Raises:
            SpaceError: a name that no parameter has.
        """
        if unknown := assignment.keys() - self._names:
            name = min(unknown)
            raise SpaceError(f"{name}: unknown choice. {did_you_mean(name, self._names)}")
        orders = [self._prefer(v, assignment.get(c.name)) for v, c in enumerate(self.parameters)]
        values = self._layout.start.copy()
        values[: len(orders)] = [order[0] for order in orders]
        if all(test(values) for tests in self._checks for _, test in tests):
            return values  # what `solve` comes to, which it does not need here
        return self._complete(orders.__getitem__)

    def _prefer(self, v: int, wanted: Scalar | None) -> Sequence[Scalar]:
        return self._orders[v].get(wanted) or self.parameters[v].nearest(cast("Scalar", wanted))

    def _descending(self, v: int) -> Sequence[Scalar]:
        """Values of a choice, the one that makes the largest network first."""
        choice = self.parameters[v]
        name = schema.plain(choice.name.rpartition(".")[2])
        if any(isinstance(value, str | bool) for value in choice.values):
            return sorted(choice.values, key=lambda value: value != schema.POLICY.get(name))
        return sorted(choice.values, reverse=not schema.is_inverse(name))

    # Values to candidate and back.

    def _build(self, values: Values) -> Candidate:
        layout = self._layout
        fields = dict(zip(layout.network.sources, layout.network.fetch(values), strict=True))
        stages: list[Stage] = []
        policies: list[StagePolicy] = []
        for site, blocks in zip(layout.stages, layout.blocks, strict=True):
            stage = dict(zip(site.sources, site.fetch(values), strict=True))
            width, keep_at = stage["width"], stage["token_keep_at"]
            built = [
                schema.build_block(
                    j % 2 == 1, width, schema.kept_at(keep_at, j), blocks[j].fetch(values)
                )
                for j in range(stage["depth"])
            ]
            before = stages[-1].width if stages else 0
            blocks = tuple(b for b, _, _ in built)
            stages.append(schema.build_stage(stage, before, blocks))
            policies.append(
                StagePolicy(
                    tuple(mixer for _, mixer, _ in built),
                    tuple(mlp for _, _, mlp in built),
                    _policy("downsample", stage) if site.where[0] else Policy(),
                )
            )
        parts = {part: _policy(part, fields) for part in ("stem", "head")}
        architecture = Architecture(
            tuple(stages), **{name: fields[name] for name in schema.ARCHITECTURE}
        )
        return Candidate(architecture, Compression(tuple(policies), **parts))

    def _values(self, candidate: Candidate) -> Values:
        orders = self._read(candidate)
        values = self._complete(lambda v: orders[v])
        if self._build(values) != candidate:
            raise SpaceError(f"candidate {candidate.key} is not in space {self.name!r}")
        return values

    def _read(self, candidate: Candidate) -> list[Sequence[Scalar]]:
        """Values of each variable, the one that the candidate has first."""
        distances = Distances(self._layout, candidate)
        return [
            sorted(choice.values, key=lambda value, v=v: distances.of(v, value))
            for v, choice in enumerate(self.parameters)
        ]


def _policy(part: str, fields: Mapping[str, Any]) -> Policy:
    return Policy(**{n: fields[f"{part}_{n}"] for n in schema.POLICY if f"{part}_{n}" in fields})


def _shuffled(values: Sequence[Scalar], rng: random.Random) -> Iterator[Scalar]:
    """Values in random order, drawn only as far as they are asked for."""
    left = list(values)
    while left:
        yield left.pop(int(rng.random() * len(left)))


def find_file(path: str | Path, presets: Path, kind: str) -> Path:
    """A file by its path, or a preset of that name.

    Raises:
        ConfigError: neither exists; the message names the closest preset.
    """
    file = Path(path)
    if is_file_name(path):
        if not file.is_file():
            raise ConfigError(f"{file}: no such {kind} file")
        return file
    preset = presets / f"{file}.yaml"
    if preset.is_file():
        return preset
    known = [entry.stem for entry in presets.glob("*.yaml")]
    raise ConfigError(f"unknown {kind} {str(path)!r}. {did_you_mean(str(path), known)}")


def is_file_name(path: str | Path) -> bool:
    """Whether a text is the path of a file, in YAML or JSON, and not the name of a preset."""
    return Path(path).suffix in (".yaml", ".yml", ".json") or len(Path(path).parts) > 1
