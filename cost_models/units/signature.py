"""Signature: what a sub-block is, which is all that its cost depends on."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from ...spaces import Place, Policy
from ...spaces.architecture import INNER, TOKEN_REDUCTIONS
from ...spaces.block import among_chosen
from ...spaces.mixers import find
from ...spaces.mixers.spec import Mixer

MLP_VARIANTS = {"plain": ("mlp", "conv"), "glu": ("glu", "glu_conv")}  # on tokens, on a grid
# Flags of sub-blocks for chosen tokens, and how these are chosen. That of a mixer says more, as
# "random" tells which tokens it drops.
ROUTES = {
    "mixer": {"routed_learned": "learned", "routed_random": "random"},
    "mlp": {"learned": "learned", "random": "random"},
}


def route_flag(kind: str, how: str) -> str:
    """Flag of a mixer or MLP for tokens that are chosen in that way."""
    return next(flag for flag, told in ROUTES[kind].items() if told == how)


def described_by(kind: str, variant: str) -> str:
    """Name of the mixer whose numbers a sub-block has, which a downsampling may; "" for none."""
    return variant if kind == "mixer" else INNER.get(variant, "") if kind == "downsample" else ""


@dataclass(frozen=True, slots=True)
class Signature:
    """Kind, shapes and policy of a sub-block; equal ones cost the same.

    Attributes:
        kind: stem, mixer, mlp, downsample or head.
        place: shapes; of a stem or head, those of the block beside it. Its block holds the numbers
            of downsampling like a mixer, and the units of a layer before the head. Tokens that
            enter a downsampling are told where their grid may have an odd side.
        policy: compression of its weights.
        norm: norm of the network.
        variant: mixer name, stem, downsampling or pooling, by kind.
        inputs: channels in, where they differ from the width: image channels of a stem,
            width before a downsampling.
        outputs: classes of a head.
        patch_size: of a stem.
        flags: of a stem "pos" or "patch_pos" (table added), "no_bias", "norm" (after the stem) and
            "pre_norm"; of a downsampling "stride_1" (the grid stays) or "odd" (it had an odd side);
            of mixers and MLPs "scale" (layer scale), "post_norm", "mlp_norm" and "no_bias"; of
            mixers that drop tokens one of `TOKEN_REDUCTIONS`; of mixers and MLPs for chosen tokens
            those of `ROUTES`; of a head "pooled" or "none" (place of the norm), "pool_registers"
            and "head_norm".
        pool_heads: of a head that pools by attention.
        pool_hidden: hidden units of its MLP.
    """

    kind: str
    place: Place
    policy: Policy
    norm: str
    variant: str
    inputs: int = 0
    outputs: int = 0
    patch_size: int = 0
    flags: tuple[str, ...] = ()
    pool_heads: int = 0
    pool_hidden: int = 0

    @property
    def layout(self) -> str:
        """Tokens or grid, the form of its input."""
        return find(self.place.block.mixer).layout

    @property
    def mixer(self) -> Mixer | None:
        """Description of its mixer, if it is one."""
        return find(self.variant) if self.kind == "mixer" else None

    @property
    def described(self) -> Mixer | None:
        """Description of the mixer whose numbers it has: its own, or those of a downsampling."""
        name = described_by(self.kind, self.variant)
        return find(name) if name else None

    @property
    def routing(self) -> str:
        """How the tokens are chosen that get it, "learned" or "random"; "" where all do."""
        routes = ROUTES.get(self.kind, {})
        return next((routes[flag] for flag in self.flags if flag in routes), "")

    @property
    def reduction(self) -> str:
        """How a mixer drops tokens, one of `TOKEN_REDUCTIONS`; "" where none are dropped."""
        if self.kind != "mixer":
            return ""
        return next((flag for flag in self.flags if flag in TOKEN_REDUCTIONS), "")

    @property
    def side_before(self) -> int:
        """Side of the grid before a downsampling."""
        if self.place.tokens != self.place.kept:
            return isqrt(self.place.tokens)
        side = self.place.grid[0]
        return side if "stride_1" in self.flags else 2 * side - ("odd" in self.flags)

    @property
    def is_routed(self) -> bool:
        """Whether it is a mixer or MLP that only chosen tokens get."""
        return bool(self.routing)

    @property
    def fed_tokens(self) -> int:
        """Patch tokens that a mixer or MLP gets."""
        if not self.is_routed:
            return self.place.tokens
        return self.place.mixed if self.kind == "mixer" else self.place.routed

    @property
    def fed_rows(self) -> int:
        """The same, class tokens and registers among them."""
        return self.place.prefix + self.fed_tokens

    @property
    def seen(self) -> Place:
        """The place as its mixer sees it, which may get chosen tokens alone."""
        return among_chosen(self.place) if self.is_routed else self.place

    @property
    def is_relative(self) -> bool:
        """Whether it adds a bias by relative position."""
        return self.place.relative and self.mixer is not None and self.mixer.relative
