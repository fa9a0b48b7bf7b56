"""Attention whose keys and values are averages over squares of the grid.

Parameter-free low-rank attention for any number of tokens: the pooling variant of Linformer
(Wang et al., arXiv:2006.04768) and the spatial reduction of PVT.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..block import Place
from .attention import Attention


class PooledAttention(Attention):
    """Attention of all tokens to class tokens and pooled patch tokens; pool 1 is plain."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.grid, self.prefix, self.pool = place.grid, place.prefix, place.block.kv_pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.attend(x, self.reduce(x) if self.pool > 1 else x)[0]

    def reduce(self, x: Tensor) -> Tensor:
        """(B, prefix + H * W, C) -> (B, prefix + ceil(H / pool) * ceil(W / pool), C)."""
        grid = x[:, self.prefix :].transpose(1, 2).unflatten(-1, self.grid)  # (B, C, H, W)
        # At the border a square may be cut; its mean is over what is inside.
        pooled = F.avg_pool2d(grid, self.pool, ceil_mode=True, count_include_pad=False)
        tokens = pooled.flatten(2).transpose(1, 2)
        return torch.cat([x[:, : self.prefix], tokens], 1) if self.prefix else tokens
