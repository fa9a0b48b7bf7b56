"""Softmax attention, with as many or fewer heads for keys and values (arXiv:2305.13245)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..block import Place
from .sharing import Fold, Shared


class Attention(nn.Module):
    """Multi-head attention over all tokens.

    Queries, keys and values are three layers, not timm's one: each is sliced by heads on its
    own, and every converter understands them. Softmax is written out so that the exported
    graph is the one that is quantized and fused.

    Args:
        place: block and shapes.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        block = place.block
        self.num_heads, self.head_dim = block.num_heads, block.head_dim
        self.kv_heads = block.kv_heads or block.num_heads
        self.q = nn.Linear(place.width, self.num_heads * self.head_dim)
        self.k = nn.Linear(place.width, self.kv_heads * self.head_dim)
        self.v = nn.Linear(place.width, self.kv_heads * self.head_dim)
        self.proj = nn.Linear(self.num_heads * self.head_dim, place.width)
        self.shared = by_heads(place.width, self.num_heads, self.head_dim, self.kv_heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.with_scores(x)[0]

    def with_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) -> (B, N, C) and the attention map (B, heads, N, N)."""
        return self.attend(x, x)

    def attend(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of x (B, N, C) see keys of source (B, M, C); the map is (B, heads, N, M)."""
        q = self.split(self.q(x), self.num_heads)  # (B, H, N, D)
        k = self.repeat(self.split(self.k(source), self.kv_heads))  # (B, H, M, D)
        v = self.repeat(self.split(self.v(source), self.kv_heads))
        scores = (q * self.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((scores @ v).transpose(1, 2).flatten(2)), scores

    def split(self, x: Tensor, heads: int) -> Tensor:
        """(B, N, heads * D) -> (B, heads, N, D)."""
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def repeat(self, x: Tensor) -> Tensor:
        """(B, kv_heads, N, D) -> (B, heads, N, D)."""
        if self.kv_heads == self.num_heads:
            return x
        return x.repeat_interleave(self.num_heads // self.kv_heads, 1)


def by_heads(width: int, heads: int, head_dim: int, kv_heads: int) -> dict[str, Shared]:
    """Sharing of q, k, v and proj head by head, weights and biases alike.

    Grouped keys and values are the mean over the heads of their group.
    """
    shared: dict[str, Shared] = {}
    for name in "qkv":
        grouped = name != "q" and kv_heads != heads
        for part, rest, axes in (("weight", (width,), " _"), ("bias", (), "")):
            shape = (heads, head_dim, *rest)
            fold, unfold = (_mean(kv_heads), _repeat) if grouped else (None, None)
            shared[f"{name}.{part}"] = Shared(shape, f"heads _{axes}", fold, unfold)
    shared["proj.weight"] = Shared((width, heads, head_dim), "_ heads _")
    return shared


def _mean(kv_heads: int) -> Fold:
    def fold(source: Tensor) -> Tensor:
        return source.unflatten(0, (kv_heads, -1)).mean(1).flatten(0, 1)

    return fold


def _repeat(parameter: Tensor, shape: torch.Size) -> Tensor:
    split = parameter.unflatten(0, (-1, shape[1]))  # head_dim of the larger is that of the own
    return split.repeat_interleave(shape[0] // split.shape[0], 0)
