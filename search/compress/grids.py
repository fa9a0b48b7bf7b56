"""Grids that integer weights may take beside the one of most kernels."""

from __future__ import annotations

from dataclasses import replace

from .quantize import Grid


def with_zero_point(grid: Grid, wanted: bool) -> Grid:
    """The grid with a zero point where the range puts it, or symmetric around zero."""
    return replace(grid, symmetric=not wanted)
