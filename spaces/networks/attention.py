"""Softmax attention, with as many or fewer heads for keys and values (arXiv:2305.13245)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..block import Place
from ..mixers.common import QKV, lacks_bias, values_of
from .norms import make_norm
from .rotary import rotate, tables
from .sharing import Shared


class Attention(nn.Module):
    """Multi-head attention over all tokens.

    Queries, keys and values are three layers, not timm's one: each is sliced by heads on its
    own, and every converter understands them. Softmax is written out so that the exported
    graph is the one that is quantized and fused.

    Args:
        place: block and shapes.
    """

    cos: Tensor | None
    sin: Tensor | None

    def __init__(self, place: Place) -> None:
        super().__init__()
        block = place.block
        self.num_heads, self.head_dim = block.num_heads, block.head_dim
        self.kv_heads = block.kv_heads or block.num_heads
        self.value_dim = values_of(block)
        inner, kv_inner = self.num_heads * self.head_dim, self.kv_heads * self.head_dim
        gathered = self.num_heads * self.value_dim
        bias = {name: not lacks_bias(block, name) for name in (*QKV, "proj")}
        self.q = nn.Linear(place.width, inner, bias["q"])
        self.k = nn.Linear(place.width, kv_inner, bias["k"])
        self.v = nn.Linear(place.width, self.kv_heads * self.value_dim, bias["v"])
        self.q_norm, self.k_norm = (
            _norm(block.qk_norm, self.head_dim, place.norm_eps) for _ in range(2)
        )
        self.norm = _norm(block.out_norm, gathered, place.norm_eps)
        self.proj = nn.Linear(gathered, place.width, bias["proj"])
        cos, sin = tables(place) if block.rope else (None, None)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        heads = self.num_heads, self.head_dim, self.kv_heads
        self.shared = by_heads(place.width, *heads, self.value_dim)
        for part in ("weight", "bias"):
            self.shared[f"norm.{part}"] = Shared((self.num_heads, self.value_dim), "heads _")

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.with_scores(x)[0]

    def with_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) -> (B, N, C) and the attention map (B, heads, N, N)."""
        return self.attend(x, x)

    def attend(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of x (B, N, C) see keys of source (B, M, C); the map is (B, heads, N, M)."""
        return self.weigh(self.q(x), self.k(source), self.v(source))

    def weigh(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, N, heads * D), keys and values (B, M, kv_heads * D) -> as `attend`."""
        q = self.q_norm(self.split(q, self.num_heads))  # (B, H, N, D)
        k = self.k_norm(self.split(k, self.kv_heads))
        if self.cos is not None and self.sin is not None:
            q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        k = self.repeat(k)  # (B, H, M, D)
        v = self.repeat(self.split(v, self.kv_heads, self.value_dim))
        scores = (q * self.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.joined(scores @ v), scores

    def joined(self, heads: Tensor) -> Tensor:
        """What the heads gathered (B, heads, N, D) -> (B, N, C)."""
        return self.proj(self.norm(heads.transpose(1, 2).flatten(2)))

    def split(self, x: Tensor, heads: int, dim: int = 0) -> Tensor:
        """(B, N, heads * D) -> (B, heads, N, D); D is that of keys, where none is given."""
        return x.unflatten(-1, (heads, dim or self.head_dim)).transpose(1, 2)

    def repeat(self, x: Tensor) -> Tensor:
        """(B, kv_heads, N, D) -> (B, heads, N, D)."""
        if self.kv_heads == self.num_heads:
            return x
        return x.repeat_interleave(self.num_heads // self.kv_heads, 1)


def _norm(kind: str, channels: int, eps: float) -> nn.Module:
    return make_norm(kind, channels, eps) if kind else nn.Identity()


def by_heads(
    width: int, heads: int, head_dim: int, kv_heads: int, value_dim: int
) -> dict[str, Shared]:
    """Sharing of q, k, v and proj head by head, weights and biases alike.

    Grouped keys and values are the mean over the heads of their group.
    """
    shared: dict[str, Shared] = {}
    mean = partial(_mean, kv_heads=kv_heads)
    for name in "qkv":
        grouped, dim = name != "q" and kv_heads != heads, value_dim if name == "v" else head_dim
        for part, rest, axes in (("weight", (width,), " _"), ("bias", (), "")):
            shape = (heads, dim, *rest)
            fold, unfold = (mean, _repeat) if grouped else (None, None)
            together = heads // kv_heads if grouped else 1
            shared[f"{name}.{part}"] = Shared(
                shape, f"heads _{axes}", fold, unfold, together=together
            )
    shared["proj.weight"] = Shared((width, heads, value_dim), "_ heads _")
    return shared


def _mean(source: Tensor, kv_heads: int) -> Tensor:
    return source.unflatten(0, (kv_heads, -1)).mean(1).flatten(0, 1)


def _repeat(parameter: Tensor, shape: torch.Size) -> Tensor:
    split = parameter.unflatten(0, (-1, shape[1]))  # head_dim of the larger is that of the own
    return split.repeat_interleave(shape[0] // split.shape[0], 0)
