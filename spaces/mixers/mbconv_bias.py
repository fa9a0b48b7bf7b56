"""MBConv whose first two convolutions have biases instead of batch norms (EfficientViT of MIT)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..block import Block
from .mbconv import SPEC as MBCONV
from .mbconv import convolutions

SPEC = replace(
    MBCONV,
    module=".mbconv_bias:BiasedMBConv",
    ops=partial(convolutions, biased=True),
    example=Block("mbconv_bias", mlp_hidden=256, kernel_size=3),
    batch_norms={"bn3": "conv_pwl"},
)
