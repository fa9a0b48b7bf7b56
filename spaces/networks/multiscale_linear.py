"""Multi-scale linear attention (Cai et al., EfficientViT, arXiv:2205.14756)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place
from .sharing import Shared, center, uncenter

EPS = 1e-5  # of sums over tokens
TINY = 1e-7  # fp16 can hold it


class MultiscaleLinearAttention(nn.Module):
    """ReLU linear attention of tokens, and of sums over their neighborhoods.

    Channels are in order of heads, and within a head of queries, keys and values. The batch norm
    after the projection is the only norm of the branch, as in EfficientViT, where a block of MBConv
    follows.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, kernel = place.width, place.block.kernel_size
        heads, dim = place.block.num_heads, place.block.head_dim
        inner = heads * dim
        self.head_dim, self.grid = dim, place.grid
        self.eps = max(EPS / place.tokens, TINY)  # of means over tokens
        self.qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        self.dwconv = nn.Conv2d(
            3 * inner, 3 * inner, kernel, padding=kernel // 2, groups=3 * inner, bias=False
        )
        self.pwconv = nn.Conv2d(3 * inner, 3 * inner, 1, groups=3 * heads, bias=False)
        self.proj = nn.Conv2d(2 * inner, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.shared = {
            "qkv.weight": Shared((heads, 3, dim, width), "heads _ _ _"),
            "dwconv.weight": Shared(
                (heads, 3, dim, 1, kernel, kernel),
                "heads _ _ _ whole whole",
                partial(_kernel, side=kernel),
                _unkernel,
            ),
            "pwconv.weight": Shared((heads, 3, dim, dim), "heads _ _ _"),
            "proj.weight": Shared((width, 2, heads, dim), "_ _ heads _"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        qkv = self.qkv(x)
        both = torch.cat([qkv, self.pwconv(self.dwconv(qkv))], 1).flatten(2)
        q, k, v = both.unflatten(1, (-1, 3 * self.head_dim)).chunk(3, 2)  # (B, 2 * H, D, N)
        q, k = F.relu(q), F.relu(k) / q.shape[-1]  # sums over tokens stay in the range of fp16
        total = k.sum(-1, keepdim=True).transpose(-2, -1) @ q  # (B, 2 * H, 1, N)
        out = (v @ k.transpose(-2, -1)) @ q / (total + self.eps)
        return self.bn(self.proj(out.flatten(1, 2).unflatten(-1, self.grid)))


def _kernel(source: Tensor, side: int) -> Tensor:
    return center(side)(source).flatten(0, 2)


def _unkernel(parameter: Tensor, shape: torch.Size) -> Tensor:
    return uncenter(parameter.unflatten(0, (-1, *shape[1:3])), shape)
