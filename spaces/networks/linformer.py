"""Attention to learned mixtures of keys and values (Wang et al., Linformer, arXiv:2006.04768)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..block import Place
from .attention import Attention


class Linformer(Attention):
    """Attention of all tokens to class tokens and `kv_tokens` mixtures of the patches.

    One projection serves keys and values of all heads (the paper's key-value sharing). Where it is
    the identity this is softmax attention. It comes after the layers of keys and values, so that
    these alone read the norm.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.prefix = place.prefix
        self.mixtures = nn.Linear(place.tokens, place.block.kv_tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, prefix + N, C) -> (B, prefix + N, C)."""
        kv = self.mixed(torch.cat([self.k(x), self.v(x)], -1))
        k, v = kv.chunk(2, -1)  # (B, prefix + kv_tokens, H * D)
        return self.weigh(self.q(x), k, v)[0]

    def mixed(self, kv: Tensor) -> Tensor:
        """(B, prefix + N, 2 * H * D) -> (B, prefix + kv_tokens, 2 * H * D)."""
        mixtures = self.mixtures(kv[:, self.prefix :].transpose(1, 2)).transpose(1, 2)
        return torch.cat([kv[:, : self.prefix], mixtures], 1) if self.prefix else mixtures
