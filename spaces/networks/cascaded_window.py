"""Cascaded group attention inside windows (Liu et al., EfficientViT, arXiv:2305.07027)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place
from ..mixers.window import padded, side_of
from .cascaded import CascadedAttention
from .sharing import Shared
from .window import distances


class CascadedWindowAttention(CascadedAttention):
    """Heads that read each other, each among the tokens of a window.

    A grid that windows do not divide is padded with zeros that take part as tokens. Convolutions
    of queries see no further than their window.
    """

    offsets: Tensor

    def __init__(self, place: Place) -> None:
        side, groups = side_of(place), place.block.num_groups
        super().__init__(replace(place, grid=(side, side)))
        self.whole, self.padded = place.grid, padded(place)
        self.bias_table = nn.Parameter(torch.zeros(groups, side, side)) if place.relative else None
        self.shared["bias_table"] = Shared((groups, side, side), "_ _ _")
        self.register_buffer("offsets", distances(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.grid == self.whole:
            return super().forward(x)
        return self.merge(super().forward(self.partition(x)))

    def biased(self, scores: Tensor, head: int) -> Tensor:
        """Scores (B * windows, N, N) of a head with a bias for each pair of tokens."""
        if self.bias_table is None:
            return scores
        return scores + self.bias_table[head].flatten()[self.offsets]

    def partition(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * windows, C, side, side)."""
        (rows, columns), (height, width), side = self.padded, self.whole, self.grid[0]
        x = F.pad(x, (0, columns - width, 0, rows - height))
        x = x.unflatten(3, (columns // side, side)).unflatten(2, (rows // side, side))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def merge(self, windows: Tensor) -> Tensor:
        """(B * windows, C, side, side) -> (B, C, H, W)."""
        (rows, columns), (height, width), side = self.padded, self.whole, self.grid[0]
        x = windows.unflatten(0, (-1, rows // side, columns // side)).permute(0, 3, 1, 4, 2, 5)
        return x.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]
