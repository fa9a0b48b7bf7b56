"""Structural re-parameterization: convolutions that are trained as several and run as one.

A kernel and one of 1x1 beside it, as in RepVGG (Ding et al., arXiv:2101.03697; of depthwise
convolutions MobileOne, Vasu et al., arXiv:2206.04040), each with a learned scale of its outputs.
Kernels are summed before the convolution, and one batch norm follows the sum, as in OREPA (Hu et
al., arXiv:2204.00826): training takes the time and memory of the plain network, and rounds the
very kernel that will run, where a batch norm for each branch leaves kernels that 8 bits cannot
hold (Chu et al., arXiv:2212.01593).

At first the 1x1 kernel is zero and the scales are one, so that a network in branches starts as the
plain one whose weights it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .sharing import Shared


class BranchedConv2d(nn.Conv2d):
    """A convolution, padded by half its kernel, whose weight is the sum of two, each scaled.

    `weight` is the larger kernel, under the name and with the shape of the plain convolution's.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: its side, odd.
        stride: of the convolution.
        groups: likewise.
        bias: whether it has one.

    Attributes:
        gamma: scale of `weight` (outputs,).
        point: the other kernel (outputs, inputs / groups, 1, 1).
        point_gamma: its scale (outputs,).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, bias: bool
    ) -> None:
        shape = inputs, outputs, kernel
        super().__init__(*shape, stride, padding=kernel // 2, groups=groups, bias=bias)
        self.gamma = nn.Parameter(torch.ones(outputs))
        self.point = nn.Parameter(torch.zeros(outputs, inputs // groups, 1, 1))
        self.point_gamma = nn.Parameter(torch.ones(outputs))

    def forward(self, input: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H', W')."""
        kernel = _sum(self.weight, self.gamma, self.point, self.point_gamma)
        return self._conv_forward(input, kernel, self.bias)

    @torch.no_grad()
    def plain(self) -> nn.Conv2d:
        """The one convolution that gives the same, with weights of its own."""
        shape = self.in_channels, self.out_channels, self.kernel_size[0], self.stride[0]
        with torch.device("meta"):  # nothing is drawn
            conv = convolution(*shape, groups=self.groups, bias=self.bias is not None)
        conv.weight = nn.Parameter(_sum(self.weight, self.gamma, self.point, self.point_gamma))
        if self.bias is not None:
            conv.bias = nn.Parameter(self.bias.clone())
        return conv.train(self.training)


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    reparam: bool = False,
) -> nn.Conv2d:
    """A convolution, padded by half its kernel; trained in branches where `reparam` says so."""
    if reparam:
        return BranchedConv2d(inputs, outputs, kernel, stride, groups, bias)
    shape = inputs, outputs, kernel
    return nn.Conv2d(*shape, stride, padding=kernel // 2, groups=groups, bias=bias)


def branch_rules(name: str, outputs: int, inputs: int, axis: str = "_") -> dict[str, Shared]:
    """Sharing of what a convolution in branches has beside its weight.

    Args:
        name: of the convolution.
        outputs: its channels out.
        inputs: channels that each of them reads.
        axis: name of the axis of its outputs.
    """
    scale = Shared((outputs,), axis)
    point = Shared((outputs, inputs, 1, 1), f"{axis} _ _ _")
    return {f"{name}.gamma": scale, f"{name}.point": point, f"{name}.point_gamma": scale}


def branches_of(network: nn.Module) -> dict[str, BranchedConv2d]:
    """Convolutions in branches by path."""
    named = network.named_modules()
    return {path: module for path, module in named if isinstance(module, BranchedConv2d)}


def merged(paths: Iterable[str], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters with which convolutions in branches compute the same by their weights alone.

    Each `weight` is the sum that it is used for, and the branch beside it is nothing. Gradients
    reach all that is in the sum.

    Args:
        paths: of the convolutions.
        params: of their network by name.
    """
    changed = dict(params)
    for path in paths:
        names = [f"{path}.{part}" for part in ("weight", "gamma", "point", "point_gamma")]
        weight, gamma, point, point_gamma = (params[name] for name in names)
        kernel = _sum(weight, gamma, point, point_gamma)
        ones, zeros = torch.ones_like(gamma), torch.zeros_like(point)
        changed |= zip(names, (kernel, ones, zeros, ones), strict=True)
    return changed


def merge(network: nn.Module) -> None:
    """Put what `merged` gives into the parameters of a network."""
    network.load_state_dict(merged(branches_of(network), network.state_dict()))


def unbranch(network: nn.Module) -> None:
    """Replace the convolutions in branches of a module by plain ones that give the same."""
    for path, conv in branches_of(network).items():
        network.set_submodule(path, conv.plain())


def _sum(weight: Tensor, gamma: Tensor, point: Tensor, point_gamma: Tensor) -> Tensor:
    """The kernel that runs: both, scaled by output, the smaller in the middle of the larger."""
    around = weight.shape[-1] // 2
    small = F.pad(point * point_gamma.view(-1, 1, 1, 1), (around,) * 4)
    return weight * gamma.view(-1, 1, 1, 1) + small
