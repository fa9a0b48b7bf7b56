"""Signature: what a sub-block is, which is all that its cost depends on."""

from __future__ import annotations

from dataclasses import dataclass

from ...spaces import Place, Policy
from ...spaces.architecture import TOKEN_ROUTINGS
from ...spaces.mixers import find
from ...spaces.mixers.spec import Mixer

MLP_VARIANTS = {"plain": ("mlp", "conv"), "glu": ("glu", "glu_conv")}  # on tokens, on a grid


@dataclass(frozen=True, slots=True)
class Signature:
    """Kind, shapes and policy of a sub-block; equal ones cost the same.

    Attributes:
        kind: stem, mixer, mlp, downsample or head.
        place: shapes; of a stem or head, those of the block beside it. Its block holds the numbers
            of "inverted" downsampling, and the units of a layer before the head.
        policy: compression of its weights.
        norm: norm of the network.
        variant: mixer name, stem, downsampling or pooling, by kind.
        inputs: channels in, where they differ from the width: image channels of a stem,
            width before a downsampling.
        outputs: classes of a head.
        patch_size: of a stem.
        flags: of a stem "pos" or "patch_pos" (table added), "no_bias", "norm" (after the stem) and
            "pre_norm"; of a downsampling "stride_1" (the grid stays); of mixers and MLPs "scale"
            (layer scale), "post_norm", "mlp_norm" and "no_bias"; of mixers that drop tokens "evit"
            or "random"; of MLPs for chosen tokens "learned" or "random"; of a head "pooled" or
            "none" (place of the norm) and "pool_registers".
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
        """Description of the mixer whose numbers it has: its own, or those of "inverted"."""
        return find("mbconv") if self.variant == "inverted" else self.mixer

    @property
    def is_routed(self) -> bool:
        """Whether it is an MLP that only chosen tokens get."""
        return self.kind == "mlp" and any(flag in TOKEN_ROUTINGS for flag in self.flags)

    @property
    def fed_rows(self) -> int:
        """Rows that an MLP gets, class tokens and registers among them."""
        return self.place.prefix + (self.place.routed if self.is_routed else self.place.tokens)

    @property
    def is_relative(self) -> bool:
        """Whether it adds a bias by relative position."""
        return self.place.relative and self.mixer is not None and self.mixer.relative
