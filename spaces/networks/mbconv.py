"""MBConv: inverted residual of 1x1, depthwise and 1x1 convolutions (arXiv:1801.04381).

With squeeze-and-excitation in the form of MobileNetV3 (Howard et al., arXiv:1905.02244).
"""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .branches import branch_rules, convolution
from .norms import BATCH_PARTS, make_act
from .sharing import Shared, center, uncenter


class MBConv(nn.Module):
    """Expansion, depthwise convolution and projection, each followed by batch norm.

    It is mixer and MLP in one, and brings its own norms, which fold into the convolutions. With
    `se_hidden` the channels are weighed before the projection.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, hidden, kernel = place.width, place.block.mlp_hidden, place.block.kernel_size
        self.conv_pw = nn.Conv2d(width, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv_dw = convolution(hidden, hidden, kernel, groups=hidden, reparam=place.reparam)
        self.bn2 = nn.BatchNorm2d(hidden)
        squeezed = place.block.se_hidden
        self.se = SqueezeExcite(hidden, squeezed, gate=place.se_gate) if squeezed else nn.Identity()
        self.conv_pwl = nn.Conv2d(hidden, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.act = make_act(place.act)
        self.shared = {
            "conv_pw.weight": Shared((hidden, width), "hidden _"),
            "conv_dw.weight": Shared(
                (hidden, 1, kernel, kernel), "hidden _ whole whole", center(kernel), uncenter
            ),
            "conv_pwl.weight": Shared((width, hidden), "_ hidden"),
            **branch_rules("conv_dw", hidden, 1, "hidden"),
        } | {
            f"{bn}.{name}": Shared((hidden,), "hidden")
            for bn in ("bn1", "bn2")
            for name in BATCH_PARTS
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.act(self.bn1(self.conv_pw(x)))
        x = self.se(self.act(self.bn2(self.conv_dw(x))))
        return self.bn3(self.conv_pwl(x))


class SqueezeExcite(nn.Module):
    """Channels weighed by two layers on their means (Hu et al., arXiv:1709.01507).

    Args:
        channels: that are weighed.
        squeezed: channels between the layers.
        axis: name of the axis of the channels.
        gate: one of `architecture.SE_GATES`.
    """

    def __init__(
        self, channels: int, squeezed: int, axis: str = "hidden", gate: str = "hard_sigmoid"
    ) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid() if gate == "sigmoid" else nn.Hardsigmoid()
        self.shared = {
            "conv_reduce.weight": Shared((squeezed, channels), f"_ {axis}"),
            "conv_expand.weight": Shared((channels, squeezed), f"{axis} _"),
            "conv_expand.bias": Shared((channels,), axis),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        weights = self.act(self.conv_reduce(x.mean((2, 3), keepdim=True)))
        return x * self.gate(self.conv_expand(weights))
