"""Rotary positions of a grid: queries and keys turned by row and column.

Su et al., RoFormer, arXiv:2104.09864; for images as in EVA-02 (arXiv:2303.11331), Perception
Encoder (arXiv:2504.13181) and DINOv3 (arXiv:2508.10104). Channels are in one order, whatever that
of a pretrained network was: first parts of all pairs, then second parts, rows before columns.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..block import Place


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of channels: (..., N, D) by tables (N, D); signs are in that of sines."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([x[..., half:], x[..., :half]], -1) * sin


def tables(place: Place) -> tuple[Tensor, Tensor]:
    """Cosines and sines (prefix + tokens, head_dim) of a place; class tokens are not turned."""
    block = place.block
    settings = (block.rope, block.rope_base, block.rope_offset, block.rope_size)
    return _tables(place.grid, place.prefix, block.head_dim, *settings)


@lru_cache(maxsize=32)  # one copy for all blocks
def _tables(
    grid: tuple[int, int],
    prefix: int,
    head_dim: int,
    kind: str,
    base: float,
    offset: float,
    size: int,
) -> tuple[Tensor, Tensor]:
    bands = head_dim // 4
    # It is kept, and an inference tensor could not be used in training later.
    with torch.device("cpu"), torch.inference_mode(False):
        frequency = base ** -(torch.arange(bands, dtype=torch.float64) / bands)
        rows, columns = (_positions(side, kind, offset, size) for side in grid)
        by_row = (rows[:, None] * frequency)[:, None].expand(-1, len(columns), -1)
        by_column = (columns[:, None] * frequency)[None].expand(len(rows), -1, -1)
        angles = torch.cat([by_row, by_column], -1).flatten(0, 1)  # (N, D / 2)
        angles = torch.cat([torch.zeros(prefix, 2 * bands, dtype=torch.float64), angles])
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos], -1).float(), torch.cat([-sin, sin], -1).float()


def _positions(side: int, kind: str, offset: float, size: int) -> Tensor:
    index = torch.arange(side, dtype=torch.float64) + offset
    if kind == "centered":
        return 2 * math.pi * (2 * (index + 0.5) / side - 1)
    return index * (size / side if size else 1.0)
