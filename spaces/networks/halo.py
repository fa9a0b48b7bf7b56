"""Attention of windows to what is in and around them (Vaswani et al., arXiv:2103.12731)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..block import Place
from .window import WindowAttention


class HaloAttention(WindowAttention):
    """Attention inside windows that see `halo` tokens beyond their border, and are not shifted.

    Beyond the grid keys and values are zeros, as in the paper. Halo 0 is window attention.
    """

    index: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__(place, place.block.halo)
        index = _around(self.padded, self.window, self.halo)
        self.register_buffer("index", index, persistent=False)

    def keys(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B * windows, reach^2, H * D)."""
        k, v = super().keys(x, tokens)
        return self.around(k), self.around(v)

    def around(self, k: Tensor) -> Tensor:
        """(B * windows, window^2, H * D) -> (B * windows, reach^2, H * D)."""
        if not self.halo:
            return k
        tokens = k.unflatten(0, (-1, self.windows)).flatten(1, 2)
        around = F.pad(tokens, (0, 0, 0, 1)).index_select(1, self.index)
        return around.unflatten(1, (self.windows, -1)).flatten(0, 1)


def _around(grid: tuple[int, ...], window: int, halo: int) -> Tensor:
    """Tokens that each window sees (windows * reach^2), counted window by window, then a zero."""
    with torch.device("cpu"):
        reach = window + 2 * halo
        rows, columns = (length // window for length in grid)
        order = torch.arange(grid[0] * grid[1]).view(rows, columns, window, window)
        order = order.transpose(1, 2).reshape(1, *grid)  # place of each token of the grid
        order = F.pad(order, (halo, halo, halo, halo), value=grid[0] * grid[1])
        squares = order.unfold(1, reach, window).unfold(2, reach, window)
        return squares.flatten()
