"""A norm of the stream itself, without a shift, as between the stages of MetaFormer's baselines."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .spec import Mixer


def normed(place: Place) -> list[Op]:
    """One norm."""
    return [unshifted(place)]


def unshifted(place: Place) -> Op:
    """A norm of tokens with a scale alone."""
    return ops.norm("layer", place.tokens, place.width)._replace(others=place.width)


SPEC = Mixer(
    module=".metaformer:Norm2d",
    ops=normed,
    example=Block("norm2d"),
    layout="grid",
    pre_norm=False,
    residual=False,
    compresses=False,
    constants=lambda place: place.width,  # zeros for the shift that an exported norm has
)
