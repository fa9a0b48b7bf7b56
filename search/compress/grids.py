"""Grids that integer weights may take beside the one of most kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .quantize import Grid


def scaled_per(grid: Grid, per: Literal["tensor", "channel", "block"]) -> Grid:
    """The grid with one scale for a tensor, an output channel, or 32 inputs of one."""
    return replace(grid, per=per)


def with_zero_point(grid: Grid, wanted: bool) -> Grid:
    """The grid with a zero point where the range puts it, or symmetric around zero."""
    return replace(grid, symmetric=not wanted)
