"""The MLP of EfficientFormer's blocks of pooling (Li et al., arXiv:2206.01191)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .norms import BATCH_PARTS, make_act
from .sharing import Shared


class ConvMlp(nn.Module):
    """Two 1x1 convolutions, each followed by batch norm, which folds into it."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, hidden = place.width, place.block.mlp_hidden
        self.fc1 = nn.Conv2d(width, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = make_act(place.act)
        self.fc2 = nn.Conv2d(hidden, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shared = {
            "fc1.weight": Shared((hidden, width), "hidden _"),
            "fc2.weight": Shared((width, hidden), "_ hidden"),
        } | {f"bn1.{name}": Shared((hidden,), "hidden") for name in BATCH_PARTS}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.bn2(self.fc2(self.act(self.bn1(self.fc1(x)))))
