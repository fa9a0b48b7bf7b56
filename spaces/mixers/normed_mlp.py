"""An MLP whose layers have batch norms, as a branch without another norm (LeViT)."""

from __future__ import annotations

from functools import partial

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .spec import Mixer


def layers(place: Place, layout: str) -> list[Op]:
    """Two layers, each with a norm, around an activation."""
    rows, width, hidden = place.prefix + place.tokens, place.width, place.block.mlp_hidden
    return [
        ops.layer(layout, rows, width, hidden, bias=False),
        ops.norm("batch", rows, hidden),
        ops.elementwise(rows * hidden),
        ops.layer(layout, rows, hidden, width, bias=False),
        ops.norm("batch", rows, width),
    ]


SPEC = Mixer(
    module=".normed_mlp:NormedMlp",
    ops=partial(layers, layout="tokens"),
    example=Block("normed_mlp", mlp_hidden=256),
    needs_grid=False,
    takes_prefix=True,
    pre_norm=False,
    is_mlp=True,
    last="fc2",
    batch_norms={"norm1": "fc1", "norm2": "fc2"},
    act_elements=lambda place: (place.prefix + place.tokens) * place.block.mlp_hidden,
)
