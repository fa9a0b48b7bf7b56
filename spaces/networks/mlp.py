"""Mlp: two linear layers around an activation, on tokens or, as 1x1 convolutions, on a grid."""

from __future__ import annotations

from torch import Tensor, nn

from .norms import make_act
from .sharing import Shared


class Mlp(nn.Module):
    """The MLP of a block.

    Args:
        width: channels in and out.
        hidden: hidden units.
        act: name of the activation.
        layout: "tokens" for (B, N, C), "grid" for (B, C, H, W).
    """

    def __init__(self, width: int, hidden: int, act: str, layout: str) -> None:
        super().__init__()
        grid = layout == "grid"
        self.fc1 = nn.Conv2d(width, hidden, 1) if grid else nn.Linear(width, hidden)
        self.act = make_act(act)
        self.fc2 = nn.Conv2d(hidden, width, 1) if grid else nn.Linear(hidden, width)
        self.shared = {
            "fc1.weight": Shared((hidden, width), "hidden _"),
            "fc1.bias": Shared((hidden,), "hidden"),
            "fc2.weight": Shared((width, hidden), "_ hidden"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        return self.fc2(self.act(self.fc1(x)))
