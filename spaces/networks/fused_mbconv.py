"""FusedMBConv: MBConv whose first two convolutions are one dense one (arXiv:2104.00298)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .branches import branch_rules, convolution
from .norms import BATCH_PARTS, make_act
from .sharing import Shared, center, uncenter


class FusedMBConv(nn.Module):
    """Dense expansion and projection, each followed by batch norm; mixer and MLP in one."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, hidden, kernel = place.width, place.block.mlp_hidden, place.block.kernel_size
        self.conv_exp = convolution(width, hidden, kernel, reparam=place.reparam)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = make_act(place.act)
        self.conv_pwl = nn.Conv2d(hidden, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shared = {
            "conv_exp.weight": Shared(
                (hidden, width, kernel, kernel), "hidden _ whole whole", center(kernel), uncenter
            ),
            "conv_pwl.weight": Shared((width, hidden), "_ hidden"),
            **branch_rules("conv_exp", hidden, width, "hidden"),
        } | {f"bn1.{name}": Shared((hidden,), "hidden") for name in BATCH_PARTS}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.bn2(self.conv_pwl(self.act(self.bn1(self.conv_exp(x)))))
