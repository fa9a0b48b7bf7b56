"""Attention to a band of neighbors and to global tokens (Beltagy et al., arXiv:2004.05150)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..block import Place
from ..mixers.banded import chunk_of, chunks_of, reach_of
from .attention import Attention

FAR = -1e4  # added to scores of what is not seen; fp16 can hold it


class BandedAttention(Attention):
    """Patches see those at most `band` away in reading order, and global tokens.

    Class tokens and registers are global: they see and are seen by everything. Patches are looked
    at in chunks as long as the band is wide on one side; keys and values of all that a chunk may
    see are gathered, so that products are matrices, and grow with tokens x band.
    """

    index: Tensor
    mask: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.prefix, self.chunk, self.chunks = place.prefix, chunk_of(place), chunks_of(place)
        index, mask = _chunks(place)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, prefix + N, C) -> (B, prefix + N, C)."""
        q, k, v = (self.split(layer(x), self.num_heads) for layer in (self.q, self.k, self.v))
        q, k = self.q_norm(q) * self.head_dim**-0.5, self.k_norm(k)  # (B, H, prefix + N, D)
        out = self.local(q[:, :, self.prefix :], k, v)
        if self.prefix:
            scores = (q[:, :, : self.prefix] @ k.transpose(-2, -1)).softmax(-1)
            out = torch.cat([scores @ v, out], 2)
        return self.joined(out)

    def local(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (B, H, N, D) of patches see some of k and v (B, H, prefix + N, D)."""
        tokens = q.shape[2]
        q = F.pad(q, (0, 0, 0, self.chunks * self.chunk - tokens))
        q = q.unflatten(2, (self.chunks, self.chunk))
        k, v = (t.index_select(2, self.index).unflatten(2, (self.chunks, -1)) for t in (k, v))
        scores = (q @ k.transpose(-2, -1) + self.mask).softmax(-1)  # (B, H, chunks, chunk, seen)
        return (scores @ v).flatten(2, 3)[:, :, :tokens]


def _chunks(place: Place) -> tuple[Tensor, Tensor]:
    """Tokens that each chunk may see (chunks * seen), and which of them each query does not."""
    chunk, chunks, reach, tokens = chunk_of(place), chunks_of(place), reach_of(place), place.tokens
    own = torch.arange(chunks * chunk, device="cpu").view(chunks, chunk)
    first = (own[:, :1] - chunk).clamp(0, tokens - reach)
    patches = first + torch.arange(reach, device="cpu")  # (chunks, reach)
    far = (own[:, :, None] - patches[:, None]).abs() > place.block.band
    mask = F.pad(far.float() * FAR, (place.prefix, 0))
    prefix = torch.arange(place.prefix, device="cpu").expand(chunks, -1)
    return torch.cat([prefix, patches + place.prefix], 1).flatten(), mask
