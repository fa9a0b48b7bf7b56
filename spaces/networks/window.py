"""(Shifted) window attention (Liu et al., Swin, arXiv:2103.14030)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place
from ..mixers.window import padded, shift_of, side_of
from .attention import Attention
from .sharing import Shared, center, uncenter


class WindowAttention(Attention):
    """Attention inside windows; a window as large as the grid is attention over all tokens.

    Window size, shift and mask are constants of the graph. A grid that windows do not divide
    is padded with zeros that take part as tokens, as in Swin.
    """

    mask: Tensor | None
    offsets: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.grid, self.padded = place.grid, padded(place)
        self.window, self.shift = side_of(place), shift_of(place)
        span = 2 * self.window - 1
        self.bias_table = (
            nn.Parameter(torch.zeros(self.num_heads, span, span)) if place.relative else None
        )
        if self.bias_table is not None:
            shape = (self.num_heads, span, span)
            rule = Shared(shape, "heads whole whole", center(span), uncenter)
            self.shared["bias_table"] = rule
        self.register_buffer("offsets", _offsets(self.window), persistent=False)
        mask = _mask(self.padded, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, H * W, C)."""
        windows = self.partition(x)  # (B, windows, window^2, C)
        tokens = windows.flatten(0, 1)
        q, k, v = (
            self.split(layer(tokens), self.num_heads) for layer in (self.q, self.k, self.v)
        )  # (B * windows, H, window^2, D)
        scores = q * self.head_dim**-0.5 @ k.transpose(-2, -1)
        if self.bias_table is not None:
            scores = scores + self.bias_table.flatten(1)[:, self.offsets]
        if self.mask is not None:
            split = scores.unflatten(0, (-1, self.mask.shape[0]))
            scores = (split + self.mask[:, None]).flatten(0, 1)
        out = self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return self.merge(out.view(windows.shape[0], windows.shape[1], *out.shape[1:]))

    def partition(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, windows, window^2, C)."""
        x = x.unflatten(1, self.grid)
        x = F.pad(x, (0, 0, 0, self.padded[1] - self.grid[1], 0, self.padded[0] - self.grid[0]))
        if self.shift:
            x = _roll(x, self.shift)
        x = x.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def merge(self, windows: Tensor) -> Tensor:
        """(B, windows, window^2, C) -> (B, H * W, C)."""
        rows, columns = (length // self.window for length in self.padded)
        x = windows.unflatten(2, (self.window, self.window)).unflatten(1, (rows, columns))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shift:
            x = _roll(x, -self.shift)
        return x[:, : self.grid[0], : self.grid[1]].flatten(1, 2)


def _roll(x: Tensor, shift: int) -> Tensor:
    """Cyclic shift of both grid axes, as slices that every runtime has."""
    for axis in (1, 2):
        length = x.shape[axis]
        cut = shift % length
        x = torch.cat([x.narrow(axis, cut, length - cut), x.narrow(axis, 0, cut)], axis)
    return x


def _offsets(window: int) -> Tensor:
    """Index of each pair of tokens into the bias table, by their relative position."""
    side = torch.arange(window, device="cpu")
    row, column = (grid.flatten() for grid in torch.meshgrid(side, side, indexing="ij"))
    rows = row[:, None] - row + window - 1
    return rows * (2 * window - 1) + column[:, None] - column + window - 1


def _mask(grid: tuple[int, ...], window: int, shift: int) -> Tensor:
    """-100 between tokens of a window that were not neighbors before the shift."""
    parts = [_part(length, window, shift) for length in grid]
    region = parts[0][:, None] * 3 + parts[1]
    cells = region.unflatten(1, (-1, window)).unflatten(0, (-1, window)).transpose(1, 2)
    flat = cells.reshape(-1, window * window)
    return (flat[:, :, None] != flat[:, None]).float() * -100.0


def _part(length: int, window: int, shift: int) -> Tensor:
    """0 before the last window, 1 in what stays of it, 2 in what was rolled into it."""
    position = torch.arange(length, device="cpu")
    return (position >= length - window).long() + (position >= length - shift).long()
