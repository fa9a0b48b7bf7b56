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

    Args:
        place: block and shapes.
        halo: tokens around a window for which there are position biases, too.
    """

    mask: Tensor | None
    offsets: Tensor

    def __init__(self, place: Place, halo: int = 0) -> None:
        super().__init__(place)
        self.grid, self.padded = place.grid, padded(place)
        self.window, self.shift, self.halo = side_of(place), shift_of(place), halo
        self.windows = self.padded[0] * self.padded[1] // self.window**2
        symmetric = bool(place.block.symmetric)
        span = self.window if symmetric else 2 * (self.window + self.halo) - 1
        self.bias_table = (
            nn.Parameter(torch.zeros(self.num_heads, span, span)) if place.relative else None
        )
        if self.bias_table is not None:
            shape = (self.num_heads, span, span)
            rule = Shared(shape, "heads whole whole", center(span), uncenter)
            rule = Shared(shape, "heads _ _", branch="symmetric") if symmetric else rule
            self.shared["bias_table"] = rule
        offsets = distances(self.window) if symmetric else _offsets(self.window, self.halo)
        self.register_buffer("offsets", offsets, persistent=False)
        mask = _mask(self.padded, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, H * W, C)."""
        tokens = self.partition(x).flatten(0, 1)  # (B * windows, window^2, C)
        q, (k, v) = self.q(tokens), self.keys(x, tokens)
        q, k = self.split(q, self.num_heads), self.split(k, self.num_heads)
        v = self.split(v, self.num_heads, self.value_dim)  # (B * windows, H, window^2 or S, D)
        out = self.joined(self.gathered(q, k, v))
        return self.merge(out.unflatten(0, (-1, self.windows)))

    def keys(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B * windows, S, H * D) of the S tokens that each window sees."""
        return self.k(tokens), self.v(tokens)

    def gathered(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (B * windows, H, window^2, D), keys and values (.., S, D) -> as the queries."""
        scores = q * self.head_dim**-0.5 @ k.transpose(-2, -1)
        if self.bias_table is not None:
            scores = scores + self.biases(self.bias_table)
        if self.mask is not None:
            split = scores.unflatten(0, (-1, self.windows))
            scores = (split + self.mask[:, None]).flatten(0, 1)
        return scores.softmax(-1) @ v

    def biases(self, table: Tensor) -> Tensor:
        """(H, span, span) -> bias of each query for each key (H, window^2, S)."""
        return table.flatten(1)[:, self.offsets]

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


def _offsets(window: int, halo: int) -> Tensor:
    """Index of each pair of query and key into the bias table, by their relative position."""
    with torch.device("cpu"):
        query, key = torch.arange(window), torch.arange(-halo, window + halo)
        along = query[:, None] - key + window + halo - 1  # of one axis (window, reach)
        rows, columns = along[:, None, :, None], along[None, :, None, :]
        return (rows * (2 * (window + halo) - 1) + columns).flatten(2).flatten(0, 1)


def distances(window: int) -> Tensor:
    """Index of each pair into a symmetric table, by how far they are apart."""
    with torch.device("cpu"):
        position = torch.arange(window)
        along = (position[:, None] - position).abs()
        rows, columns = along[:, None, :, None], along[None, :, None, :]
        return (rows * window + columns).flatten(2).flatten(0, 1)


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
