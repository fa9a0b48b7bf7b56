"""Window attention with global tokens (Huang et al., LightViT, arXiv:2207.05557)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..block import Place
from .sharing import Shared
from .window import WindowAttention


class AggregatedAttention(WindowAttention):
    """Attention inside windows, beside a detour through a few learned tokens.

    The global tokens collect from the tokens of all windows, exchange what they hold, and give it
    back to all. They belong to the block, where LightViT has them in the stream. Zeros that fill
    the last windows take part, as they do inside windows.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        heads, dim, some = self.num_heads, self.head_dim, place.block.global_tokens
        self.latent = nn.Parameter(torch.zeros(heads, some, dim))
        nn.init.trunc_normal_(self.latent, std=0.02)
        self.k_global = nn.Linear(heads * dim, heads * dim)
        self.v_global = nn.Linear(heads * dim, heads * dim)
        self.shared["latent"] = Shared((heads, some, dim), "heads _ _")
        for name in ("k_global", "v_global"):
            self.shared[f"{name}.weight"] = Shared((heads, dim, heads, dim), "heads _ heads _")
            self.shared[f"{name}.bias"] = Shared((heads, dim), "heads _")

    def gathered(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What windows and global tokens say to all (B * windows, H, window^2, D)."""
        local = super().gathered(q, k, v)
        q, k, v = (self.together(t) for t in (q, k, v))  # (B, H, windows * window^2, D)
        tokens = self.attention(self.latent[None], k, v)
        tokens = tokens + self.attention(tokens, tokens, tokens)
        joint = tokens.transpose(1, 2).flatten(2)  # (B, global_tokens, H * D)
        k, v = self.k_global(joint), self.v_global(joint)
        k, v = self.split(k, self.num_heads), self.split(v, self.num_heads)
        back = self.attention(q, k, v).unflatten(2, (self.windows, -1))
        return local + back.transpose(1, 2).flatten(0, 1)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (B, H, N, D), keys and values (B, H, M, D) -> (B, H, N, D)."""
        return (q * self.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v

    def together(self, x: Tensor) -> Tensor:
        """(B * windows, H, window^2, D) -> (B, H, windows * window^2, D)."""
        return x.unflatten(0, (-1, self.windows)).transpose(1, 2).flatten(2, 3)
