"""Cascaded group attention (Liu et al., EfficientViT, arXiv:2305.07027)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place
from ..mixers.cascaded import kernels_of
from .sharing import Shared, center, uncenter


class CascadedAttention(nn.Module):
    """A head for each group of channels, which also sees what the head before it gave.

    Queries pass through a depthwise convolution. Every layer has a batch norm, and the branch no
    other. Heads come one after the other, so that none can be pruned or change its place.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, block = place.width, place.block
        groups, self.key_dim = block.num_groups, block.key_dim
        self.dim, self.grid = width // groups, place.grid
        self.qkvs = nn.ModuleList(
            _normed(nn.Conv2d(self.dim, 2 * self.key_dim + self.dim, 1, bias=False))
            for _ in range(groups)
        )
        key = self.key_dim
        self.dws = nn.ModuleList(
            _normed(nn.Conv2d(key, key, kernel, padding=kernel // 2, groups=key, bias=False))
            for kernel in kernels_of(block)
        )
        self.proj = nn.Conv2d(width, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.shared = {"proj.weight": Shared((width, groups, self.dim), "_ _ _")}
        for head, side in enumerate(kernels_of(block)):
            rule = Shared((key, 1, side, side), "_ _ whole whole", center(side), uncenter)
            self.shared[f"dws.{head}.conv.weight"] = rule

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        given: list[Tensor] = []
        for head, (part, qkv, dw) in enumerate(
            zip(x.split(self.dim, 1), self.qkvs, self.dws, strict=True)
        ):
            seen = qkv(part + given[-1] if given else part)
            q, k, v = seen.split([self.key_dim, self.key_dim, self.dim], 1)
            q, k, v = (t.flatten(2) for t in (dw(q) * self.key_dim**-0.5, k, v))  # (B, D, N)
            scores = self.biased(q.transpose(1, 2) @ k, head).softmax(-1)  # (B, N, N)
            given.append((v @ scores.transpose(1, 2)).unflatten(-1, self.grid))
        return self.bn(self.proj(F.relu(torch.cat(given, 1))))

    def biased(self, scores: Tensor, head: int) -> Tensor:
        """Scores (B, N, N) of a head with what is added to them: nothing here."""
        return scores


def _normed(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels)))
