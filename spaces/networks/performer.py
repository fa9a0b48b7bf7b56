"""Attention by positive orthogonal random features (Choromanski et al., arXiv:2009.14794)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..block import Place
from .attention import Attention


class Performer(Attention):
    """FAVOR+: exp(q . k) as the mean of products of exp(w . q - q^2 / 2) and exp(w . k - k^2 / 2).

    The projection is drawn once, from a fixed seed, and never trained: it is a constant of the
    graph. A larger one begins with the smaller, so that networks of both can share weights.
    """

    projection: Tensor
    eps = 1e-6  # of the largest feature: no token is without weight

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        projection = orthogonal(place.block.num_features, self.head_dim) * self.head_dim**-0.25
        self.register_buffer("projection", projection, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        q, k, v = (self.split(layer(x), self.num_heads) for layer in (self.q, self.k, self.v))
        # Features by rows (B, H, F, N): the constant is no weight of a layer, which has it right.
        # A factor of all features of a query has no effect, nor has one of all keys.
        q, k = (
            self.projection @ q.transpose(-2, -1),
            self.projection @ k.transpose(-2, -1) - self.half_square(k),
        )
        q = (q - q.amax(-2, keepdim=True)).exp() + self.eps
        k = (k - k.amax((-2, -1), keepdim=True)).exp() + self.eps
        total = q.transpose(-2, -1) @ k.sum(-1, keepdim=True)  # (B, H, N, 1)
        return self.joined(q.transpose(-2, -1) @ (k @ v) / total)

    def half_square(self, k: Tensor) -> Tensor:
        """(B, H, N, D) -> (B, H, 1, N), of keys scaled as in the projection."""
        return (k.square().sum(-1) * (0.5 * self.head_dim**-0.5))[:, :, None]


def orthogonal(features: int, dim: int) -> Tensor:
    """Directions (features, dim), orthogonal in blocks of `dim`, as long as normal vectors are."""
    with torch.device("cpu"), torch.inference_mode(False):
        generator, blocks = torch.Generator().manual_seed(0), list[Tensor]()
        for _ in range(-(-features // dim)):
            normal = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
            q, r = torch.linalg.qr(normal)
            lengths = torch.randn(dim, dim, generator=generator, dtype=torch.float64).norm(dim=1)
            # Signs as the decomposition is unique: the same on every machine.
            blocks.append((q * r.diagonal().sign()).T * lengths[:, None])
        return torch.cat(blocks)[:features].float()
