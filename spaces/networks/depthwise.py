"""A depthwise convolution between attention and MLP (Wu et al., TinyViT, arXiv:2207.10666)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .branches import convolution
from .sharing import Shared, center, uncenter


class DepthwiseConv(nn.Module):
    """A depthwise convolution and batch norm, without a residual."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, kernel = place.width, place.block.kernel_size
        self.conv = convolution(width, width, kernel, groups=width, reparam=place.reparam)
        self.bn = nn.BatchNorm2d(width)
        shape = (width, 1, kernel, kernel)
        rule = Shared(shape, "_ _ whole whole", center(kernel), uncenter)
        self.shared = {"conv.weight": rule}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.bn(self.conv(x))
