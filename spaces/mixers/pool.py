"""The mean of a 3x3 neighborhood minus the token itself, as in PoolFormer."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .spec import Mixer


def pool(place: Place) -> list[Op]:
    """A pass over the grid, and a difference."""
    elements = place.tokens * place.width
    return [ops.pool(elements, elements), ops.elementwise(elements, 2)]


SPEC = Mixer(
    module=".pool:AveragePool",
    ops=pool,
    example=Block("pool"),
    layout="grid",
    has_weights=False,
)
