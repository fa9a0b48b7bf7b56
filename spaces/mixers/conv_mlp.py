"""An MLP of 1x1 convolutions with batch norms after them, which is a block: EfficientFormer's."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .spec import Mixer


def convolutions(place: Place) -> list[Op]:
    """Two of 1x1, and an activation between them."""
    tokens, width, hidden = place.tokens, place.width, place.block.mlp_hidden
    return [
        ops.conv(tokens, width, hidden, 1, bias=False),
        ops.norm("batch", tokens, hidden),
        ops.elementwise(tokens * hidden),
        ops.conv(tokens, hidden, width, 1, bias=False),
        ops.norm("batch", tokens, width),
    ]


SPEC = Mixer(
    module=".conv_mlp:ConvMlp",
    ops=convolutions,
    example=Block("conv_mlp", mlp_hidden=256),
    layout="grid",
    pre_norm=False,
    is_mlp=True,
    last="fc2",
    batch_norms={"bn1": "fc1", "bn2": "fc2"},
    act_elements=lambda place: place.tokens * place.block.mlp_hidden,
)
