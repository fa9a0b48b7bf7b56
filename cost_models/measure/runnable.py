"""Runnable: what of a space a device can execute, found by trying each kind of block once.

A kind is a sub-block without its sizes: its operation, norm, activation, and whatever else changes
the graph. Small examples of all that a space has are exported, converted, compiled and run, until
each has been seen with each of its variants; precisions likewise, on each kind of layer. What a
runtime refuses, or answers otherwise than ONNX Runtime, is traced back to choices of the space, and
the space goes on without these, so that nothing that draws from it can propose them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ...spaces import Candidate, Policy, Scalar, SearchSpace, schema
from ...spaces.errors import ChoiceError, CostError, MissingRuntimeError, SpaceError, first_line
from ...spaces.exits import NONE
from ...spaces.mixers import fields
from ...spaces.narrowing import alternatives, values_of, without
from ..device import Device
from ..graphs.files import check_answers, unit_file
from ..graphs.modules import build
from ..graphs.to_onnx import to_onnx
from ..hand_over import why_not
from ..runtime_spec import ONNX, find_runtime
from ..runtimes import open_runtime
from ..runtimes.torch import threads
from ..standalone.runner import REFUSALS
from ..units.precision_recipes import precision_of, ranked
from ..units.sub_block import SubBlock
from ..units.workload import walk, workload
from .blame import blame

DRAWN = 256  # candidates in which kinds of blocks are looked for
PLAIN = "float"  # the recipe of a block whose operators are tried
LATER = 32  # candidates by which another choice is tried

Trait = tuple[str, Any]
Kind = frozenset[tuple[str, str, Trait]]  # of a sub-block: its traits, each with kind and variant
Settings = dict[str, Scalar]


@dataclass(frozen=True)
class Refusal:
    """Choices that a device cannot execute.

    Attributes:
        clause: names of a space file with values that must not meet.
        block: kind and variant of the sub-block whose operators are refused, such as "mixer
            window"; empty where it is a precision that no block can have.
        reason: what the runtime said.
    """

    clause: Mapping[str, Scalar]
    block: str
    reason: str

    @property
    def choice(self) -> str:
        """The clause in words.

        >>> Refusal({"mixer": "window", "norm": "rms"}, "mixer window", "").choice
        'mixer window with norm rms'
        """
        return " with ".join(f"{schema.plain(n)} {v}" for n, v in self.clause.items())

    def __str__(self) -> str:
        where = f" in {self.block}" if self.block not in ("", self.choice) else ""
        return f"{self.choice}{where} ({self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return {"clause": dict(self.clause), "block": self.block, "reason": self.reason}


def left_out(device: Device, refusals: Sequence[Refusal]) -> str:
    """One line on what a search goes without; empty if there is nothing."""
    if not refusals:
        return ""
    listed = "; ".join(dict.fromkeys(map(str, refusals)))  # of mixers and of MLPs in one
    return f"space: {device.name} cannot execute, and so is left out: {listed}"


def runnable(device: Device, space: SearchSpace) -> tuple[SearchSpace, list[Refusal]]:
    """The part of a space that a device can execute, and what it cannot.

    Args:
        device: which must be usable here.
        space: which is given back where nothing is refused.

    Raises:
        CostError: nothing is left to choose from, naming operator, block, and what would do.
        MissingRuntimeError: the device's runtime is not installed here.
    """
    refusals = [*_exits(device, space), *_searched(device, space.to_yaml())]
    if not refusals:
        return space, []
    try:
        narrowed = without(space, [refusal.clause for refusal in refusals])
    except SpaceError as error:
        where = f": {error}" if isinstance(error, ChoiceError) else f" ({error})"
        first = _culprit(refusals, error)
        raise CostError(
            f"device {device.name!r} cannot execute {first}, and space {space.name!r} leaves "
            f"nothing else{where}. {_remedy(_Tried(device), space, first, refusals)}"
        ) from None
    return narrowed, refusals


def _exits(device: Device, space: SearchSpace) -> list[Refusal]:
    """The exits of a space, where a device cannot run a network in parts."""
    reason = why_not(device.to_dict())
    if not reason:
        return []
    given = [value for value in values_of(space, "exits") if value != NONE]
    return [Refusal({"exits": value}, "", reason) for value in given]


@lru_cache(maxsize=16)
def _searched(device: Device, text: str) -> tuple[Refusal, ...]:
    """What a device cannot execute of a space file; a run asks when it is begun and calibrated."""
    open_runtime(device)
    space, tried = SearchSpace.from_text(text), _Tried(device)
    drawn = _drawn(space, DRAWN)
    return tuple(_refusals(tried, space, drawn)) if tried.reasons(_blocks(drawn)) else ()


@cache
def refused(device: Device, block: SubBlock, recipe: str) -> str:
    """Reason why a device cannot run a sub-block; empty where it can.

    Args:
        device: which must be usable here.
        block: whose policy says nothing of bits.
        recipe: of its weights.
    """
    try:
        with threads(1):
            module, shape = build(block, device.batch)
            if not find_runtime(device.runtime).from_graphs:
                # What torch runs as it is, its compilers run too: they leave the rest to it.
                eager = replace(device, compiled=False)
                open_runtime(eager).compile(module).run(np.ones(shape, np.float32))
                return ""
            model = to_onnx(module, shape)
            content = unit_file(device, model, recipe, 1).content
            if find_runtime(device.runtime).format == ONNX:
                check_answers(device, content)
            else:  # whose answers were compared when it was converted
                opened = open_runtime(device).compile(content)
                opened.run(np.ones(opened.input_shape, np.float32))
    except MissingRuntimeError:
        raise
    except REFUSALS as error:
        return first_line(error)
    return ""


class _Tried:
    """What a device was found to run; each kind of block, and each precision, is tried once."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._kinds: dict[Kind, str] = {}
        self._precisions: dict[tuple[str, frozenset[str]], str] = {}

    def reasons(self, blocks: Iterable[SubBlock]) -> set[str]:
        """Why some are refused; few blocks are tried, which together show every trait."""
        kinds: dict[Kind, SubBlock] = {}
        for block in sorted(blocks, key=lambda block: (block.macs, block.key)):
            kinds.setdefault(_kind(block), block)  # the smallest of each
        found = {self.precision(block) for block in blocks}
        seen: set[tuple[str, str, Trait]] = set()
        while True:
            new = {kind: len(kind - seen) for kind in kinds}
            kind = max(new, key=new.__getitem__)
            if not new[kind]:
                return found - {""}
            seen |= kind
            found.add(self.operators(kinds[kind]))

    def reason(self, block: SubBlock) -> str:
        """Reason why a block is refused; empty where it is not."""
        return self.operators(block) or self.precision(block)

    def operators(self, block: SubBlock) -> str:
        """The same for its operators alone, whatever its sizes."""
        kind = _kind(block)
        if kind not in self._kinds:
            self._kinds[kind] = refused(self.device, _dense(block), PLAIN)
        return self._kinds[kind]

    def precision(self, block: SubBlock) -> str:
        """The same for its bits, by the kinds of its layers: one recipe suffices."""
        if block.policy.weight_bits == 32:
            return ""
        kind = precision_of(block.policy), frozenset(op.kind for op in block.ops() if op.weights)
        if kind not in self._precisions:
            self._precisions[kind] = self._tried_recipes(block)
        return self._precisions[kind]

    def _tried_recipes(self, block: SubBlock) -> str:
        try:
            recipes = ranked(block, self.device.recipes)
        except CostError as error:
            return str(error)
        plain, reason = _dense(block), ""
        for recipe in recipes:
            reason = refused(self.device, plain, recipe)
            if not reason or self.operators(block):
                return ""
        return reason


def _dense(block: SubBlock) -> SubBlock:
    """A sub-block in float32, with as many layers as compression makes of it."""
    return replace(block, policy=Policy(others=block.policy.others))


def _kind(block: SubBlock) -> Kind:
    return frozenset((block.kind, block.variant, trait) for trait in _traits(block))


def _traits(block: SubBlock) -> list[Trait]:
    """All about a sub-block but its sizes."""
    place, mixer = block.place, block.mixer
    traits: list[Trait] = [
        *(("norm", block.norm), ("act", place.act), ("layout", block.layout)),
        *(("relative", block.is_relative), ("flags", block.flags)),
        *(("prefix", place.prefix > 0), ("registers", place.registers > 0)),
        ("dropped", place.kept != place.tokens),
        ("others", tuple(sorted(name for name, _ in block.policy.others))),
    ]
    if mixer:
        numbers = dict(place.block.numbers)
        kinds = (n.name for n in mixer.numbers if not n.axis and n.name != "head_dim")
        traits += [(name, numbers.get(name)) for name in kinds]
        traits += [("nodes", (*mixer.flags(place), *mixer.nodes(place), bool(mixer.pads(place))))]
    return traits


def _refusals(tried: _Tried, space: SearchSpace, candidates: Sequence[Candidate]) -> list[Refusal]:
    """The choices behind all blocks of some candidates that are refused.

    Raises:
        CostError: no choice of the space is behind one.
    """
    failing: dict[str, list[tuple[Settings, SubBlock]]] = {}
    others: dict[str, list[Settings]] = {}
    for candidate in candidates:
        settings = space.settings(candidate)
        for where, block in walk(candidate):
            own = _own(settings, where, block)
            if tried.reason(block):
                failing.setdefault(block.kind, []).append((own, block))
            else:
                others.setdefault(block.kind, []).append(own)
    order, found = schema.names(), list[Refusal]()
    for kind, parts in failing.items():
        clauses = blame([own for own, _ in parts], others.get(kind, []), order)
        if not clauses:
            own, block = parts[0]
            first = Refusal(own, f"{kind} {block.variant}", tried.reason(block))
            raise CostError(
                f"device {tried.device.name!r} cannot execute {first.block} ({first.reason}), "
                f"which every candidate of space {space.name!r} has. "
                f"{_remedy(tried, space, first, found)}"
            )
        for clause in clauses:
            block = next(b for own, b in parts if clause.items() <= own.items())
            operators = tried.operators(block)
            where = f"{kind} {block.variant}" if operators else ""
            found.append(Refusal(clause, where, tried.reason(block)))
    found.sort(key=lambda refusal: len(refusal.clause))
    kept: list[Refusal] = []
    for refusal in found:  # not those that shorter ones imply
        if not any(other.clause.items() <= refusal.clause.items() for other in kept):
            kept.append(refusal)
    return kept


def _own(
    settings: Mapping[tuple[int, ...], Settings], where: tuple[int, ...], block: SubBlock
) -> Settings:
    """The settings that may matter to a sub-block at a place."""
    own: Settings = {}
    for depth in range(len(where) + 1):
        own |= settings[where[:depth]]
    own.pop("token_keep_at", None)
    own.pop("exits", None)  # their heads run wherever another does
    if len(where) < 2:
        return own
    own["token_keep"] = block.place.block.token_keep  # that of this block, if it drops any
    mixers_own = {"mixer_capacity", *(f"mixer_{name}" for name in schema.POLICY), *fields()}
    mlps_own = {"mlp_capacity", *(f"mlp_{name}" for name in schema.POLICY)}
    dropped = mlps_own if block.kind == "mixer" else mixers_own
    return {name: value for name, value in own.items() if name not in dropped}


def _culprit(refusals: Sequence[Refusal], error: SpaceError) -> Refusal:
    """The refusal that an error about a choice is about, as far as its text tells."""
    named = (r for r in refusals if any(f"{schema.plain(n)}: " in str(error) for n in r.clause))
    return next(named, refusals[0])


def _remedy(tried: _Tried, space: SearchSpace, refusal: Refusal, known: Sequence[Refusal]) -> str:
    """The nearest other choice with which what is refused goes, and nothing else is refused.

    The nearest is the one with the most similar number of multiply-accumulates.
    """
    macs = workload(space.largest()).macs
    before = tried.reasons(_blocks(_drawn(space, LATER)))
    bad = [dict(other.clause) for other in known]
    others: list[tuple[float, str, Scalar, SearchSpace]] = []
    for name, value in refusal.clause.items():
        for other, changed in alternatives(space, name, value):
            if {name: other} not in bad:
                distance = abs(workload(changed.largest()).macs - macs)
                others.append((distance, name, other, changed))
    for _, name, other, changed in sorted(others, key=lambda item: item[:2]):
        after = tried.reasons(_blocks(_drawn(changed, LATER)))
        if after <= before - {refusal.reason}:
            return f"The nearest that it can: {schema.plain(name)} {other}"
    return "No other value of a single choice would do"


def _drawn(space: SearchSpace, count: int) -> list[Candidate]:
    """Random candidates of a space, with its largest and its smallest."""
    drawn = (space.largest(), space.smallest(), *space.sample(count))
    return list({candidate.key: candidate for candidate in drawn}.values())


def _blocks(candidates: Sequence[Candidate]) -> set[SubBlock]:
    return {block for candidate in candidates for block in workload(candidate).sub_blocks}
