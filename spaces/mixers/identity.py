"""Nothing: tokens stay as they are, and the block is its MLP (attention dropped from a block)."""

from __future__ import annotations

from ..block import Block, Place
from ..ops import Op
from .spec import Mixer


def nothing(place: Place) -> list[Op]:
    """No operation."""
    return []


SPEC = Mixer(
    module=".identity:Unmixed",
    ops=nothing,
    example=Block("identity"),
    needs_grid=False,
    takes_prefix=True,
    pre_norm=False,
    residual=False,
    has_weights=False,
)
