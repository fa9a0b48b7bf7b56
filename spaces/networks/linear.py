"""ReLU linear attention with a depthwise convolution on the values.

Cai et al., EfficientViT, arXiv:2205.14756; the convolution restores the rank that linear
attention loses (Han et al., FLatten, arXiv:2308.00442).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place
from .attention import by_heads
from .sharing import Shared, center, uncenter


class LinearAttention(nn.Module):
    """Attention by ReLU features: keys times values first, linear in the number of tokens."""

    eps = 1e-6

    def __init__(self, place: Place) -> None:
        super().__init__()
        block = place.block
        self.grid, self.prefix = place.grid, place.prefix
        self.num_heads, self.head_dim = block.num_heads, block.head_dim
        inner, kernel = self.num_heads * self.head_dim, block.kernel_size
        self.q = nn.Linear(place.width, inner)
        self.k = nn.Linear(place.width, inner)
        self.v = nn.Linear(place.width, inner)
        self.dwconv = nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner)
        self.proj = nn.Linear(inner, place.width)
        heads, fold = (self.num_heads, self.head_dim), partial(_kernel, side=kernel)
        self.shared = by_heads(place.width, *heads, *heads) | {
            "dwconv.weight": Shared(
                (*heads, kernel, kernel), "heads _ whole whole", fold, _unkernel
            ),
            "dwconv.bias": Shared(heads, "heads _"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, prefix + H * W, C) -> (B, prefix + H * W, C)."""
        q, k, values = self.q(x), self.k(x), self.v(x)  # (B, N, H * D)
        q, k, v = (
            t.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for t in (q, k, values)
        )  # (B, H, N, D)
        q, k = F.relu(q), F.relu(k) / x.shape[1]  # sums over tokens stay in the range of fp16
        mixed = q @ (k.transpose(-2, -1) @ v)
        total = q @ k.sum(-2, keepdim=True).transpose(-2, -1)  # (B, H, N, 1)
        out = (mixed / (total + self.eps)).transpose(1, 2).flatten(2)
        return self.proj(out + self.local(values))

    def local(self, values: Tensor) -> Tensor:
        """Depthwise convolution over the grid; class tokens get nothing: (B, N, H * D)."""
        grid = values[:, self.prefix :].transpose(1, 2).unflatten(-1, self.grid)
        tokens = self.dwconv(grid).flatten(2).transpose(1, 2)
        return F.pad(tokens, (0, 0, self.prefix, 0)) if self.prefix else tokens


def _kernel(source: Tensor, side: int) -> Tensor:
    return center(side)(source).flatten(0, 1)[:, None]


def _unkernel(parameter: Tensor, shape: torch.Size) -> Tensor:
    return uncenter(parameter[:, 0].unflatten(0, (-1, shape[1])), shape)
