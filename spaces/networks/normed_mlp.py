"""An MLP that brings its own norms (Graham et al., LeViT, arXiv:2104.01136)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .norms import BATCH_PARTS, BatchNorm, make_act
from .sharing import Shared

EPS = 1e-5  # of its batch norms, that of torch


class NormedMlp(nn.Module):
    """Linear layers around an activation, each followed by a batch norm that folds into it."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, hidden = place.width, place.block.mlp_hidden
        self.fc1, self.norm1 = nn.Linear(width, hidden, bias=False), BatchNorm(hidden, EPS)
        self.act = make_act(place.act)
        self.fc2, self.norm2 = nn.Linear(hidden, width, bias=False), BatchNorm(width, EPS)
        self.shared = {f"norm1.{part}": Shared((hidden,), "hidden") for part in BATCH_PARTS} | {
            "fc1.weight": Shared((hidden, width), "hidden _"),
            "fc2.weight": Shared((width, hidden), "_ hidden"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.norm2(self.fc2(self.act(self.norm1(self.fc1(x)))))
