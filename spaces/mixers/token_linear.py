"""One linear layer across tokens, as in ResMLP."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .spec import Mixer


def layer(place: Place) -> list[Op]:
    """The same layer for every channel."""
    return [ops.linear(place.width, place.tokens, place.tokens)]


SPEC = Mixer(
    module=".token_linear:TokenLinear",
    ops=layer,
    example=Block("token_linear"),
    fixed_tokens=True,
)
