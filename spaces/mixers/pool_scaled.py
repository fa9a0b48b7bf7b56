"""The mean of neighbors after a norm without a shift, added to a scaled stream: PoolFormerV2."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .norm2d import unshifted
from .pool import pool
from .spec import Mixer, Number


def pooled(place: Place) -> list[Op]:
    """A norm, a pass over the grid, and what is added to the stream."""
    return [unshifted(place), *pool(place), *added(place)]


def added(place: Place) -> list[Op]:
    """Addition to the stream, which is scaled before where a block says so."""
    elements = place.tokens * place.width
    scale = [ops.elementwise(elements, others=place.width)] if place.block.res_scale else []
    return [*scale, ops.elementwise(elements, 2)]


# A learned scale of each channel of the stream (Shleifer et al., NormFormer, arXiv:2110.09456).
RES_SCALE = Number("res_scale", False, fixed=True)

SPEC = Mixer(
    module=".metaformer:ScaledPool",
    ops=pooled,
    example=Block("pool_scaled"),
    numbers=(RES_SCALE,),
    layout="grid",
    pre_norm=False,
    residual=False,
    compresses=False,
    flags=lambda place: ("res_scale",) if place.block.res_scale else (),
)
