"""Attention that is fine nearby and coarse far away (Yang et al., Focal, arXiv:2107.00641)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..block import Place
from ..mixers.focal import levels
from .window import WindowAttention


class FocalAttention(WindowAttention):
    """Attention inside windows that also see their surroundings in squares.

    Squares of level n are 2^n tokens wide, and a window sees as many of them as it has tokens: the
    nearest ones. So each level doubles how far it sees, at the same cost. One level is window
    attention. Position biases are those inside the window.
    """

    index: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.levels = levels(place)
        index = _nearest(self.padded, self.window, self.levels)  # (windows, window^2 + squares)
        self.squares = index.shape[1] - self.window**2
        self.register_buffer("index", index.flatten(), persistent=False)

    def keys(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the window, then those of the squares that are nearest to it."""
        if not self.levels:
            return super().keys(x, tokens)
        windows = tokens.unflatten(0, (-1, self.windows)).flatten(1, 2)
        source = torch.cat([windows, self.coarse(x)], 1)
        return self.near(self.k(source)), self.near(self.v(source))

    def coarse(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> means (B, squares of all levels, C)."""
        grid = x.transpose(1, 2).unflatten(-1, self.grid)
        squares = [
            F.avg_pool2d(grid, 2 << n, ceil_mode=True, count_include_pad=False).flatten(2)
            for n in range(len(self.levels))
        ]
        return torch.cat(squares, -1).transpose(1, 2)

    def near(self, k: Tensor) -> Tensor:
        """(B, tokens and squares, H * D) -> (B * windows, window^2 + squares, H * D)."""
        return k.index_select(1, self.index).unflatten(1, (self.windows, -1)).flatten(0, 1)

    def biases(self, table: Tensor) -> Tensor:
        """Those of the window, and none for squares."""
        return F.pad(super().biases(table), (0, self.squares))


def _nearest(grid: tuple[int, ...], window: int, coarse: list[tuple[int, int]]) -> Tensor:
    """What each window sees: its tokens, counted window by window, and squares after them all."""
    with torch.device("cpu"):
        rows, columns = (torch.arange(length // window) for length in grid)
        before = grid[0] * grid[1]
        seen = [torch.arange(before).view(-1, window**2)]
        for n, (side, part) in enumerate(coarse):
            # The part is centered on the window, and moved inside the grid.
            first = [
                ((2 * own * window + window) // (4 << n) - part // 2).clamp(0, side - part)
                for own in (rows, columns)
            ]
            row, column = (start[:, None] + torch.arange(part) for start in first)
            cells = row[:, None, :, None] * side + column[None, :, None, :]
            seen.append(before + cells.flatten(2).flatten(0, 1))
            before += side * side
        return torch.cat(seen, 1)
