"""A depthwise separable convolution (Howard et al., MobileNet, arXiv:1704.04861)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .branches import convolution
from .norms import make_act
from .sharing import Shared, center, uncenter


class SeparableConv(nn.Module):
    """A depthwise convolution and a projection, each followed by batch norm."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, kernel = place.width, place.block.kernel_size
        self.conv_dw = convolution(width, width, kernel, groups=width, reparam=place.reparam)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = make_act(place.act)
        self.conv_pw = nn.Conv2d(width, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        shape = (width, 1, kernel, kernel)
        rule = Shared(shape, "_ _ whole whole", center(kernel), uncenter)
        self.shared = {"conv_dw.weight": rule}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))
