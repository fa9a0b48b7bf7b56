"""An MLP of 1x1 convolutions with batch norms after them, which is a block: EfficientFormer's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..block import Block
from .normed_mlp import SPEC as NORMED_MLP
from .normed_mlp import layers

SPEC = replace(
    NORMED_MLP,
    module=".normed_mlp:ConvMlp",
    ops=partial(layers, layout="grid"),
    example=Block("conv_mlp", mlp_hidden=256),
    layout="grid",
    needs_grid=True,
    takes_prefix=False,
    batch_norms={"bn1": "fc1", "bn2": "fc2"},
)
