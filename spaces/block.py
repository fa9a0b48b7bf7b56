"""Block: one residual pair of mixer and MLP; Place: a block with the shapes around it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

Numbers = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, init=False)
class Block:
    """The numbers of one block, as built: structured pruning is already in them.

    Which numbers a mixer has is in its file in `mixers/`. They are given and read by name, as in
    `Block("softmax", num_heads=3, head_dim=64).num_heads`; one that a block does not have reads 0.

    Attributes:
        mixer: what mixes tokens, a name of `mixers.MIXERS`.
        mlp_hidden: hidden units of the MLP, or of a mixer that is one; 0 for no MLP.
        token_keep: share of the tokens that leaves the mixer; 1.0 keeps all.
        mlp_capacity: share of the patch tokens that gets the MLP; 1.0 gives it to all.
        numbers: (name, value) of the mixer's numbers that are not 0, by name.
        mixer_capacity: share of the patch tokens that the mixer mixes, among themselves; 1.0 mixes
            all.
    """

    mixer: str = "softmax"
    mlp_hidden: int = 0
    token_keep: float = 1.0
    mlp_capacity: float = 1.0
    numbers: Numbers = ()
    # Not in `repr`, by which libraries of older releases know their start.
    mixer_capacity: float = field(default=1.0, repr=False)

    def __init__(
        self,
        mixer: str = "softmax",
        *,
        mlp_hidden: int = 0,
        token_keep: float = 1.0,
        mlp_capacity: float = 1.0,
        mixer_capacity: float = 1.0,
        numbers: Numbers = (),
        **named: Any,
    ) -> None:
        if named:
            merged = dict(numbers) | named
            numbers = tuple(sorted((name, value) for name, value in merged.items() if value))
        object.__setattr__(self, "mixer", mixer)
        object.__setattr__(self, "mlp_hidden", mlp_hidden)
        object.__setattr__(self, "token_keep", token_keep)
        object.__setattr__(self, "mlp_capacity", mlp_capacity)
        object.__setattr__(self, "mixer_capacity", mixer_capacity)
        object.__setattr__(self, "numbers", numbers)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def add_number(name: str, absent: Any) -> None:
    """Add an attribute to `Block` that reads one number of a mixer.

    Args:
        name: which must be an identifier that a block does not use itself.
        absent: what blocks without the number say.
    """
    if not name.isidentifier() or name.startswith("_") or name in Block.__slots__:
        raise ValueError(f"a number of a mixer needs another name than {name!r}")

    def read(block: Block) -> Any:
        for known, value in block.numbers:
            if known == name:
                return value
        return absent

    setattr(Block, name, property(read))


@dataclass(frozen=True, slots=True)
class Place:
    """A block with everything around it that fixes its shapes.

    Attributes:
        block: the block itself.
        width: channels of the residual stream.
        grid: rows and columns of the stage's token grid.
        prefix: class tokens and registers, which stand before the patch tokens.
        tokens: patch tokens that enter; rows x columns unless tokens were dropped before.
        kept: patch tokens that leave the mixer; equals tokens where none are dropped.
        relative: whether window attention adds a bias by relative position.
        act: activation of MLPs and convolutions.
        registers: how many of the prefix stand for no class.
        norm_eps: epsilon of norms inside mixers.
        routed: patch tokens that get the MLP where they are chosen; 0 where all get it.
        reparam: whether convolutions are trained in branches, which costs nothing at run time.
        mixed: patch tokens that are mixed where they are chosen; 0 where all are.
        se_gate: of squeeze-and-excitation.
    """

    block: Block
    width: int
    grid: tuple[int, int]
    prefix: int
    tokens: int
    kept: int
    relative: bool = False
    act: str = "gelu"
    registers: int = 0
    norm_eps: float = 1e-6
    routed: int = 0
    reparam: bool = False
    mixed: int = 0
    se_gate: str = "hard_sigmoid"


def among_chosen(place: Place) -> Place:
    """The place as a mixer sees it that gets chosen tokens alone."""
    return replace(place, tokens=place.mixed, kept=place.mixed, mixed=0)
