"""MBConv whose sum with its input is activated (Wu et al., TinyViT, arXiv:2207.10666)."""

from __future__ import annotations

from torch import Tensor

from .mbconv import MBConv


class ActivatedMBConv(MBConv):
    """Expansion, depthwise convolution and projection, the residual, and an activation of both."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.act(x + super().forward(x))
