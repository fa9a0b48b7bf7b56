"""Average pooling as a mixer (Yu et al., PoolFormer, arXiv:2111.11418)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place


class AveragePool(nn.Module):
    """Mean of a 3x3 neighborhood minus the token itself; no weights."""

    def __init__(self, place: Place) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False) - x
