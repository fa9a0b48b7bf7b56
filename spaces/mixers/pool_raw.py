"""The same mean of neighbors without a norm before it, as in EfficientFormer."""

from __future__ import annotations

from dataclasses import replace

from ..block import Block
from .pool import SPEC as POOL

SPEC = replace(POOL, example=Block("pool_raw"), pre_norm=False)
