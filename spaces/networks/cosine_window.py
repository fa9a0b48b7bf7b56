"""Cosine window attention with continuous biases (Liu et al., SwinV2, arXiv:2111.09883)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..block import Place
from ..mixers.cosine_window import POSITION_HIDDEN
from .sharing import Shared
from .window import WindowAttention

SCALE = math.log(10)  # logarithm of the scale to start with


class CosineWindowAttention(WindowAttention):
    """Attention inside windows by the angle between query and key.

    An angle is taken by a learned scale for each head, at most 100. The bias of a pair of tokens
    comes from a small MLP on their distance, whose logarithm lets it serve windows of every size;
    it is a constant once the graph is exported.
    """

    eps = 1e-7  # fp16 can hold it, and zeros that fill windows have no direction
    distances: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__(replace(place, relative=False))
        heads, units = self.num_heads, POSITION_HIDDEN
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), SCALE))
        self.position_in = nn.Parameter(torch.zeros(units, 2))
        self.position_bias = nn.Parameter(torch.zeros(units))
        self.position_out = nn.Parameter(torch.zeros(heads, units))
        if not self.position_in.is_meta:
            for weight in (self.position_in, self.position_out):
                nn.init.trunc_normal_(weight, std=0.02)
        self.register_buffer("distances", _distances(self.window), persistent=False)
        self.shared |= {
            "logit_scale": Shared((heads, 1, 1), "heads _ _", start=SCALE),
            "position_bias": Shared((units,), "_", start=0),
            "position_out": Shared((heads, units), "heads _"),
        }

    def gathered(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys and values (B * windows, H, window^2, D) -> as the queries."""
        scale = self.logit_scale.clamp(max=math.log(100)).exp() / self.head_dim
        scores = (self.turned(q) * scale) @ self.turned(k).transpose(-2, -1)
        scores = scores + self.continuous()
        if self.mask is not None:
            split = scores.unflatten(0, (-1, self.windows))
            scores = (split + self.mask[:, None]).flatten(0, 1)
        return scores.softmax(-1) @ v

    def turned(self, x: Tensor) -> Tensor:
        """Vectors (.., D) of the length that is the root of D."""
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()

    def continuous(self) -> Tensor:
        """Bias of each query for each key (H, window^2, window^2)."""
        hidden = (self.distances @ self.position_in.T + self.position_bias).relu()
        return 16 * self.biases((hidden @ self.position_out.T).T[:, None]).sigmoid()


def _distances(window: int) -> Tensor:
    """Logarithms of the relative positions in a window ((2 * window - 1)^2, 2)."""
    with torch.device("cpu"):
        along = torch.arange(1.0 - window, window) * 8 / max(window - 1, 1)
        along = along.sign() * (along.abs() + 1).log2() / 3
        return torch.cartesian_prod(along, along)
