"""Nothing, on a grid: what a stage of convolutions has that is only led to."""

from __future__ import annotations

from dataclasses import replace

from ..block import Block
from .identity import SPEC as IDENTITY

SPEC = replace(IDENTITY, example=Block("identity2d"), layout="grid", takes_prefix=False)
