"""Attention on an unfolded grid (Mehta and Rastegari, MobileViT, arXiv:2110.02178)."""

from __future__ import annotations

from torch import Tensor

from ..block import Place
from .attention import Attention


class UnfoldedAttention(Attention):
    """Tokens with the same place in their square of the grid see each other, all over the grid.

    It is the unfold, attend and fold of MobileViT's block; the convolutions around it, which mix
    the tokens of a square, are blocks of their own. A square of one token is plain attention.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.grid, self.size = place.grid, place.block.unfold_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, H * W, C)."""
        (rows, columns), size = self.grid, self.size
        x = x.unflatten(1, (rows // size, size, columns // size, size))
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3, 4)  # (B, size, size, squares, C)
        x = self.with_scores(x.flatten(0, 2))[0].unflatten(0, (-1, size, size))
        x = x.unflatten(3, (rows // size, columns // size)).permute(0, 3, 1, 4, 2, 5)
        return x.flatten(1, 4)
