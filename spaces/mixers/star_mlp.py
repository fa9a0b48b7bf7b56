"""An MLP with a squared ReLU that is scaled and shifted, as a block of its own: PoolFormerV2."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .norm2d import unshifted
from .pool_scaled import RES_SCALE, added
from .spec import Mixer


def layers(place: Place) -> list[Op]:
    """A norm, two 1x1 convolutions around the activation, and what is added to the stream."""
    tokens, width, hidden = place.tokens, place.width, place.block.mlp_hidden
    return [
        unshifted(place),
        ops.conv(tokens, width, hidden, 1, bias=False),
        Op("constant", others=2),  # scale and shift, two numbers
        *[ops.elementwise(tokens * hidden)] * 3,
        ops.conv(tokens, hidden, width, 1, bias=False),
        *added(place),
    ]


SPEC = Mixer(
    module=".metaformer:StarMlp",
    ops=layers,
    example=Block("star_mlp", mlp_hidden=256),
    numbers=(RES_SCALE,),
    layout="grid",
    pre_norm=False,
    residual=False,
    is_mlp=True,
    flags=lambda place: ("res_scale",) if place.block.res_scale else (),
)
