"""A block without a mixer."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place


class Unmixed(nn.Module):
    """Tokens as they are; no norm and no addition is left of the branch.

    Whole attention branches of trained networks can be dropped like this at little loss (He et
    al., arXiv:2406.15786), which is why it is not the norm alone, as in MetaFormer's baseline.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return x
