"""Parts of MetaFormer's baselines (Yu et al., PoolFormerV2, arXiv:2210.13452)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place
from .norms import LayerScale
from .pool import AveragePool
from .sharing import Shared


class Norm2d(nn.Module):
    """Layer norm over the channels of a grid, with a scale and no shift."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.eps = place.norm_eps
        self.weight = nn.Parameter(torch.ones(place.width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, None, self.eps)
        return x.permute(0, 3, 1, 2)


class WholeNorm2d(nn.Module):
    """Norm of all channels and places together, with a scale of each channel and no shift."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.eps = place.norm_eps
        self.weight = nn.Parameter(torch.ones(place.width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        normed = F.instance_norm(x.flatten(1)[:, None], eps=self.eps).view(x.shape)
        return normed * self.weight[:, None, None]


class StarRelu(nn.Module):
    """The square of ReLU, scaled and shifted by two learned numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        x = x.relu()
        return x * x * self.weight + self.bias


class ScaledPool(nn.Module):
    """Pooling after a norm, added to a stream that is scaled by channel where the block says so."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.norm, self.pool = WholeNorm2d(place), AveragePool(place)
        self.res_scale = _scale(place)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.res_scale(x) + self.pool(self.norm(x))


class StarMlp(nn.Module):
    """An MLP after a norm, added as `ScaledPool` adds; no layer of it has a bias."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        width, hidden = place.width, place.block.mlp_hidden
        self.norm = WholeNorm2d(place)
        self.fc1, self.fc2 = (
            nn.Conv2d(*sizes, 1, bias=False) for sizes in ((width, hidden), (hidden, width))
        )
        self.act, self.res_scale = StarRelu(), _scale(place)
        self.shared = {
            "fc1.weight": Shared((hidden, width), "hidden _"),
            "fc2.weight": Shared((width, hidden), "_ hidden"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.res_scale(x) + self.fc2(self.act(self.fc1(self.norm(x))))


def _scale(place: Place) -> nn.Module:
    return LayerScale(place.width, "", "grid") if place.block.res_scale else nn.Identity()
