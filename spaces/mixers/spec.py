"""Mixer: description of a mixer without torch: its numbers, operations and rules.

A mixer's file has one `SPEC`, a `Mixer`. Names in space files, keys, counting, interpolation and
sharing all follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from ..block import Block, Numbers, Place, add_number
from ..ops import Op
from ..parameter import Scalar


class Given(NamedTuple):
    """Values that are known when the numbers of a mixer are built.

    Attributes:
        fields: values of the names in space files.
        width: channels of the stage.
        odd: whether the block is the second, fourth, ... of its stage.
    """

    fields: Mapping[str, Any]
    width: int
    odd: bool


@dataclass(frozen=True)
class Number:
    """One number of a mixer, as a space file says it and as a block holds it.

    Mixers may share a number, which is then the same object.

    Attributes:
        name: attribute of `Block`, and name in candidates and in keys of cost tables.
        default: in space files that do not name it; its type is that of all values.
        field: name in space files, where it is another.
        low: smallest value in space files.
        high: largest value in space files.
        options: all values that there are, if they can be listed.
        build: (value in the space file, what is given) -> number; the value itself by default.
        reads: the other names in space files that `build` looks at, "width" among them.
        axis: "heads" or "hidden" if it counts what pruning removes, after `Shared.axes`.
        fixed: one value a space, no choice.
        inverse: the smallest value makes the largest network.
        arithmetic: operations are arithmetic in it, with no loop or test, so that those of many
            blocks are counted at once.
    """

    name: str
    default: Scalar = 0
    field: str = ""
    low: float = 0
    high: float = 1_000_000
    options: tuple[Scalar, ...] = ()
    build: Callable[[Any, Given], Any] | None = None
    reads: tuple[str, ...] = ()
    axis: str = ""
    fixed: bool = False
    inverse: bool = False
    arithmetic: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", self.field or self.name)
        add_number(self.name, self.kind())

    @property
    def kind(self) -> type[Any]:
        """Type of what a block holds: a number of units where the file says a share."""
        return type(self.default) if self.field == self.name else int

    def parse(self, text: str) -> Any:
        """Read a value of a block back from its `str`.

        Raises:
            ValueError: the text of something else.
        """
        return text == "True" if self.kind is bool else self.kind(text)

    def make(self, value: Any, given: Given, prune_ratio: float) -> Any:
        """Value that a block holds for a value of the space file."""
        if self.build:
            value = self.build(value, given)
        return KEPT[self.axis](value, prune_ratio) if self.axis else value


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule on some fields of a block and its surroundings.

    Attributes:
        fields: arguments of `holds`: names of Block, Stage or Architecture, and `stage`
            (index), `stages` (number of them) and `grid` (side of the stage's token grid).
        holds: whether the combination works.
        reason: why not; may quote the fields, and `mixer` where it is the rule of one.
    """

    fields: tuple[str, ...]
    holds: Callable[..., bool]
    reason: str


def nothing(place: Place) -> Any:
    """0, for counts of what a mixer does not have."""
    return 0


def no_names(place: Place) -> tuple[str, ...]:
    """No names, for what a mixer does not have."""
    return ()


@dataclass(frozen=True)
class Mixer:
    """A mixer, without torch.

    Attributes:
        module: "module:attribute" of the torch class, or of a function that makes the torch
            module, from a `Place`; after a leading dot it is in `networks`. Imported when the
            first network is built.
        ops: what it computes at a place.
        example: a block of ordinary size, which `vitpareto devices` measures.
        numbers: what `Block` holds for it.
        rules: which combinations of its numbers with what is around them cannot work.
        attribute: name of the module in its block; mixers of one name share weights. The
            mixer's own name by default.
        layout: "tokens" for (B, N, C), "grid" for (B, C, H, W).
        needs_grid: it uses the two-dimensional arrangement, so no token may be missing: none is
            dropped before it, and none is left out of it.
        has_positions: of blocks that use it all the same, as with rotary positions.
        takes_prefix: it can carry class tokens and registers beside the grid.
        ranks_tokens: it has an attention map from which tokens can be ranked: its module has
            `with_scores`, which gives the map too.
        pre_norm: it is preceded by the block's norm; convolutions bring their own.
        residual: what it gives is added to the stream; otherwise it is the stream.
        fixed_tokens: its weights are tied to one number of tokens.
        is_mlp: it expands channels itself, so that no MLP follows.
        relative: it adds a bias by relative position where the network has `pos_embed: relative`.
        has_weights: there is something to train.
        reparam: some of its convolutions are trained in branches where the network says so, see
            `networks/branches.py`.
        compresses: some of it are linear layers or dense convolutions, which alone are compressed.
        readers: the linear layers or 1x1 convolutions that read the norm, which can take a
            batch norm in.
        last: the linear layer or convolution that writes the output, which can take a layer
            scale in.
        batch_norms: batch norm -> convolution before it, which can take it in.
        act_elements: elements that pass through an activation function.
        coordinates: numbers by which measured latencies are interpolated, by name; those of the
            block by default.
        flags: named choices that change its time; they may not read an arithmetic number.
        nodes: further choices that change the nodes of its exported graph.
        pads: whether there are zeros between norm and readers, so that a shift cannot move on.
        constants: float32 elements of its exported graph that are no weights, such as masks.
    """

    module: str
    ops: Callable[[Place], list[Op]]
    example: Block
    numbers: tuple[Number, ...] = ()
    rules: tuple[Rule, ...] = ()
    attribute: str = ""
    layout: str = "tokens"
    needs_grid: bool = True
    has_positions: Callable[[Block], bool] = lambda block: False
    takes_prefix: bool = False
    ranks_tokens: bool = False
    pre_norm: bool = True
    residual: bool = True
    fixed_tokens: bool = False
    is_mlp: bool = False
    relative: bool = False
    has_weights: bool = True
    reparam: bool = False
    compresses: bool = True
    readers: tuple[str, ...] = ()
    last: str = ""
    batch_norms: Mapping[str, str] = field(default_factory=dict[str, str])
    act_elements: Callable[[Place], Any] = nothing
    coordinates: Callable[[Place], Mapping[str, Any]] | None = None
    flags: Callable[[Place], tuple[str, ...]] = no_names
    nodes: Callable[[Place], tuple[str, ...]] = no_names
    pads: Callable[[Place], Any] = nothing
    constants: Callable[[Place], Any] = nothing

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of its numbers in a block."""
        return tuple(number.name for number in self.numbers)

    @cached_property
    def spelled(self) -> frozenset[str]:
        """Names of its numbers in space files."""
        return frozenset(number.field for number in self.numbers)

    @property
    def is_nothing(self) -> bool:
        """Whether it leaves tokens as they are."""
        return not (self.residual or self.has_weights)

    @cached_property
    def pruned(self) -> dict[str, str]:
        """Axis along which pruning shortens its weights -> the number that is its length."""
        own = {number.axis: number.name for number in self.numbers if number.axis}
        return own | ({"hidden": "mlp_hidden"} if self.is_mlp else {})

    def build(self, given: Given, prune_ratio: float) -> Numbers:
        """The numbers of a block, from values of a space file."""
        made = (
            (number.name, number.make(given.fields[number.field], given, prune_ratio))
            for number in self.numbers
        )
        return tuple(sorted((name, value) for name, value in made if value))

    def uses_grid(self, block: Block) -> bool:
        """Whether a block of it needs the arrangement of its tokens, all of them."""
        return self.needs_grid or self.has_positions(block)

    def located(self, place: Place) -> Mapping[str, Any]:
        """Its coordinates at a place."""
        if self.coordinates:
            return self.coordinates(place)
        return {name: getattr(place.block, name) for name in self.fields}


def kept_heads(heads: int, prune_ratio: float) -> int:
    """Heads left after pruning, at least one."""
    return max(1, round(heads * (1 - prune_ratio))) if heads else 0


def kept_units(units: int, prune_ratio: float) -> int:
    """Hidden units left after pruning, in whole groups of 8 as kernels like them, or all.

    >>> kept_units(192, 0.0), kept_units(192, 0.3), kept_units(47, 0.05), kept_units(4, 0.5)
    (192, 136, 47, 4)
    """
    if not units * prune_ratio:
        return units
    return min(units, max(8, round(units * (1 - prune_ratio) / 8) * 8))


def squeezed(width: int, ratio: float) -> int:
    """Channels of a share of the width, in whole groups of 8; 0 for none.

    >>> squeezed(96, 0.25), squeezed(16, 0.25), squeezed(16, 0)
    (24, 8, 0)
    """
    return max(8, round(width * ratio / 8) * 8) if ratio else 0


KEPT = {"heads": kept_heads, "hidden": kept_units}
