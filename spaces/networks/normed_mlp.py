"""MLPs that bring their own norms: LeViT's on tokens, EfficientFormer's on a grid."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .mlp import make_layer
from .norms import BATCH_PARTS, BatchNorm, make_act
from .sharing import Shared

EPS = 1e-5  # of the batch norms, that of torch


class NormedMlp(nn.Module):
    """Linear layers around an activation, each followed by a batch norm that folds into it.

    Source: Graham et al., LeViT, arXiv:2104.01136.

    Attributes:
        layout: "tokens" for (B, N, C), "grid" for (B, C, H, W).
        norms: names of its two norms.
        norm: (channels, eps) -> batch norm of that layout.
    """

    layout = "tokens"
    norms = ("norm1", "norm2")
    norm: type[nn.Module] = BatchNorm

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, hidden = place.width, place.block.mlp_hidden
        first, second = self.norms
        self.fc1 = make_layer(width, hidden, self.layout, bias=False)
        self.add_module(first, self.norm(hidden, EPS))
        self.act = make_act(place.act)
        self.fc2 = make_layer(hidden, width, self.layout, bias=False)
        self.add_module(second, self.norm(width, EPS))
        self.shared = {f"{first}.{part}": Shared((hidden,), "hidden") for part in BATCH_PARTS} | {
            "fc1.weight": Shared((hidden, width), "hidden _"),
            "fc2.weight": Shared((width, hidden), "_ hidden"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        first, second = (self.get_submodule(name) for name in self.norms)
        return second(self.fc2(self.act(first(self.fc1(x)))))


class ConvMlp(NormedMlp):
    """The same of 1x1 convolutions (Li et al., EfficientFormer, arXiv:2206.01191)."""

    layout = "grid"
    norms = ("bn1", "bn2")
    norm = nn.BatchNorm2d
