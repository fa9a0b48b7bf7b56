"""The block of ConvNeXt (Liu et al., arXiv:2201.03545)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .branches import convolution
from .norms import make_act, make_norm
from .sharing import Shared, center, uncenter


class ConvNext(nn.Module):
    """Depthwise convolution, layer norm, and an MLP on every token; one branch, mixer and MLP."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, hidden, kernel = place.width, place.block.mlp_hidden, place.block.kernel_size
        self.conv_dw = convolution(
            width, width, kernel, groups=width, bias=True, reparam=place.reparam
        )
        self.norm = make_norm("layer", width, place.norm_eps)
        self.fc1 = nn.Linear(width, hidden)
        self.act = make_act(place.act)
        self.fc2 = nn.Linear(hidden, width)
        self.shared = {
            "conv_dw.weight": Shared(
                (width, 1, kernel, kernel), "_ _ whole whole", center(kernel), uncenter
            ),
            "fc1.weight": Shared((hidden, width), "hidden _"),
            "fc1.bias": Shared((hidden,), "hidden"),
            "fc2.weight": Shared((width, hidden), "_ hidden"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))  # (B, H, W, C)
        return self.fc2(self.act(self.fc1(x))).permute(0, 3, 1, 2)
