"""MBConv with fewer norms (Cai et al., EfficientViT, arXiv:2205.14756)."""

from __future__ import annotations

from torch import nn

from ..block import Place
from .branches import convolution
from .mbconv import MBConv
from .sharing import Shared


class BiasedMBConv(MBConv):
    """Expansion and depthwise convolution have biases, and only the projection has a batch norm."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        hidden, kernel = place.block.mlp_hidden, place.block.kernel_size
        self.conv_pw = nn.Conv2d(place.width, hidden, 1)
        self.conv_dw = convolution(
            hidden, hidden, kernel, groups=hidden, bias=True, reparam=place.reparam
        )
        for name in ("bn1", "bn2"):
            self.add_module(name, nn.Identity())
        biases = ("conv_pw.bias", "conv_dw.bias")
        self.shared |= dict.fromkeys(biases, Shared((hidden,), "hidden"))
