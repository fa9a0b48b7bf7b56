"""Norms over the channel axis, for tokens (B, N, C) and for grids (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..rules import GROUP_CHANNELS
from .sharing import Shared

BATCH_PARTS = ("weight", "bias", "running_mean", "running_var")  # of a batch norm


class LayerNorm(nn.LayerNorm):
    """Layer norm of tokens."""


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a grid."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RmsNorm(nn.Module):
    """Scale to unit root mean square (Zhang and Sennrich, arXiv:1910.07467).

    Written out, since ONNX has the operator only from opset 23.
    """

    def __init__(self, num_channels: int, eps: float, axis: int = -1) -> None:
        super().__init__()
        self.eps, self.axis = eps, axis
        self.weight = nn.Parameter(torch.ones(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape with channels on `axis`."""
        scale = (x.pow(2).mean(self.axis, keepdim=True) + self.eps).rsqrt()
        weight = self.weight if self.axis == -1 else self.weight[:, None, None]
        return x * scale * weight


class Affine(nn.Module):
    """Scale and shift of every channel, with no statistics (ResMLP, arXiv:2105.03404)."""

    def __init__(self, num_channels: int, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.shared = own_branch("affine", num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape with channels on `axis`."""
        weight, bias = self.weight, self.bias
        if self.axis != -1:
            weight, bias = weight[:, None, None], bias[:, None, None]
        return x * weight + bias


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of tokens: every token of every image is a sample."""

    def __init__(self, num_channels: int, eps: float) -> None:
        super().__init__(num_channels, eps)
        self.shared = own_branch("batch", num_channels)

    def forward(self, input: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return super().forward(input.flatten(0, -2)).view(input.shape)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm of grids."""

    def __init__(self, num_channels: int, eps: float) -> None:
        super().__init__(num_channels, eps)
        self.shared = own_branch("batch", num_channels)


class GroupNorm2d(nn.GroupNorm):
    """Group norm of grids.

    Groups have a fixed number of channels, so that widths can share; or one has all ("group1", the
    norm of PoolFormer, Yu et al., arXiv:2111.11418).
    """

    def __init__(self, num_channels: int, eps: float, branch: str = "group") -> None:
        groups = num_channels // GROUP_CHANNELS if branch == "group" else 1
        super().__init__(groups, num_channels, eps)
        self.shared = own_branch(branch, num_channels)


class GroupNorm(GroupNorm2d):
    """Group norm of tokens; statistics run over all tokens of an image."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def own_branch(branch: str, channels: int) -> dict[str, Shared]:
    """Scale, shift and statistics that no other kind of norm shares."""
    names = BATCH_PARTS if branch == "batch" else BATCH_PARTS[:2]
    return {name: Shared((channels,), "_", branch=branch) for name in names}


def make_norm(kind: str, num_channels: int, eps: float, layout: str = "tokens") -> nn.Module:
    """A norm by its name, one of `architecture.NORMS`."""
    grid = layout == "grid"
    if kind == "affine":
        return Affine(num_channels, axis=1 if grid else -1)
    if kind == "rms":
        return RmsNorm(num_channels, eps, axis=1 if grid else -1)
    classes: dict[str, tuple[Callable[..., nn.Module], ...]] = {
        "layer": (LayerNorm, LayerNorm2d),
        "batch": (BatchNorm, BatchNorm2d),
        "group": (GroupNorm, GroupNorm2d),
        "group1": (partial(GroupNorm, branch="group1"), partial(GroupNorm2d, branch="group1")),
    }
    return classes[kind][grid](num_channels, eps=eps)


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), the GELU of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * (1.702 * x).sigmoid()


ACTS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGelu,
    "relu6": nn.ReLU6,
}


def make_act(name: str) -> nn.Module:
    """An activation by its name."""
    return ACTS[name]()


class LayerScale(nn.Module):
    """A learned scale per channel on a residual branch (Touvron et al., arXiv:2103.17239).

    Each branch (mixer, activation) has its own: their outputs differ in size, and one shared
    scale starves the smaller (NASViT's switchable layer scale).
    """

    def __init__(self, dim: int, branch: str, layout: str, init: float = 1.0) -> None:
        super().__init__()
        self.layout = layout
        self.gamma = nn.Parameter(torch.full((dim,), init))
        self.shared = {"gamma": Shared((dim,), "_", branch=branch)}

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) or grid (B, C, H, W)."""
        return x * (self.gamma if self.layout == "tokens" else self.gamma[:, None, None])
