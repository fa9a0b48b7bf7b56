"""Token reduction with static shapes: EViT's top-k with a fused token, and its control."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..block import Place


class TokenReduction(nn.Module):
    """Keep the most attended tokens and fuse the others (Liang et al., arXiv:2202.07800).

    Tokens are ranked by the class token's attention, or where there is none by the attention
    they receive from all tokens, registers included. The fused token is the total minus what was
    kept, so that no complement of the kept indices is needed.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.prefix, self.top = place.prefix, place.kept - 1
        self.by_class = place.prefix > place.registers

    def forward(self, x: Tensor, scores: Tensor) -> Tensor:
        """(B, prefix + N, C) and their attention map (B, heads, ., .) -> (B, prefix + K, C)."""
        prefix, patches = x[:, : self.prefix], x[:, self.prefix :]
        seen = scores[:, :, 0] if self.by_class else scores.mean(2)
        rank = seen.mean(1)[:, self.prefix :]  # (B, N)
        weights, index = rank.topk(self.top, 1)
        kept = patches.gather(1, index[:, :, None].expand(-1, -1, x.shape[-1]))
        fused = rank[:, None] @ patches - weights[:, None] @ kept  # (B, 1, C)
        return torch.cat([prefix, kept, fused], 1)


class RandomReduction(nn.Module):
    """Keep a fixed random subset of tokens: what any ranking has to beat."""

    index: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(place.tokens)
        order = torch.randperm(place.tokens, generator=generator, device="cpu")
        kept = order[: place.kept].sort().values + place.prefix
        prefix = torch.arange(place.prefix, device="cpu")
        self.register_buffer("index", torch.cat([prefix, kept]), persistent=False)

    def forward(self, x: Tensor, scores: Tensor | None) -> Tensor:
        """(B, prefix + N, C) -> (B, prefix + K, C); the attention map is not looked at."""
        return x.index_select(1, self.index)


REDUCTIONS: dict[str, type[nn.Module]] = {"evit": TokenReduction, "random": RandomReduction}
