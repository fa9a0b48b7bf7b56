"""A depthwise convolution with batch norm, added to the stream (EfficientViT of MSRA)."""

from __future__ import annotations

from dataclasses import replace

from ..block import Block
from .depthwise import SPEC as DEPTHWISE

SPEC = replace(
    DEPTHWISE, example=Block("depthwise_residual", kernel_size=3), residual=True, last="conv"
)
