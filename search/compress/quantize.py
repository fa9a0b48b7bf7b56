"""Fake quantization: numbers rounded to what an integer kernel would see, kept in float.

The formulas are those of ONNX QuantizeLinear and DynamicQuantizeLinear: scales from the range,
rounding half to even, saturation. The gradient passes straight through the rounding (Bengio et
al., arXiv:1308.3432).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...cost_models.units.precision_recipes import BLOCK

TINY = 1e-12  # keeps the scale of a group of zeros away from 0
TINY_RANGE = 1e-8  # likewise for the range of an activation
ACT_TOP = 255  # activations are unsigned 8-bit integers in every runtime


@dataclass(frozen=True, slots=True)
class Grid:
    """The values that a weight may take.

    Attributes:
        bits: 2 to 8 for integers; 16 rounds to float16, 32 leaves the weight as it is.
        per: part that shares a scale: the whole tensor, an output channel, or a block of inputs
            of one.
        symmetric: zero in the middle of an odd number of values; else the zero point is where
            the range puts it, and all 2**bits values are used.
        block: inputs that share a scale in blocks.
    """

    bits: int = 32
    per: Literal["tensor", "channel", "block"] = "channel"
    symmetric: bool = True
    block: int = BLOCK


class Integers(NamedTuple):
    """A weight as integers: `(values - zero) * scale`, a row for each group that shares a scale."""

    values: Tensor
    scale: Tensor
    zero: Tensor


def quantize_weight(weight: Tensor, grid: Grid) -> Tensor:
    """Weights (out, ...) rounded to a grid."""
    if grid.bits >= 32:
        return weight
    if grid.bits == 16:
        return straight_through(weight, weight.half().to(weight.dtype))
    codes = integers(weight.detach(), grid)
    rows = (codes.values - codes.zero) * codes.scale
    if grid.per == "block":  # without the padding of the last block
        rows = rows.view(len(weight), -1)[:, : weight[0].numel()]
    return straight_through(weight, rows.reshape(weight.shape))


def integers(weight: Tensor, grid: Grid) -> Integers:
    """Weights (out, ...) as integers (groups, n), with scales and zero points (groups, 1)."""
    rows = weight.reshape(1, -1) if grid.per == "tensor" else weight.flatten(1)
    if grid.per == "block":
        rows = F.pad(rows, (0, -rows.shape[1] % grid.block)).reshape(-1, grid.block)
    if grid.symmetric:
        top = 2 ** (grid.bits - 1) - 1
        scale = (rows.abs().amax(1, keepdim=True) / top).clamp_min(TINY)
        return Integers((rows / scale).round().clamp(-top, top), scale, torch.zeros_like(scale))
    top = 2**grid.bits - 1
    low = rows.amin(1, keepdim=True).clamp_max(0)
    scale = ((rows.amax(1, keepdim=True).clamp_min(0) - low) / top).clamp_min(TINY)
    zero = (-low / scale).round()
    return Integers(((rows / scale).round() + zero).clamp(0, top), scale, zero)


def quantize_dynamic(x: Tensor, images: int) -> Tensor:
    """Activations on 256 values between the smallest and the largest of each image.

    The range always holds 0, which is then exact. It is taken image by image, as a runtime
    does that quantizes at each run with batch 1.

    Args:
        x: any shape whose first axis is the images, or their windows one after the other.
        images: how many there are.
    """
    rows = x.detach().reshape(images, -1)
    low, high = rows.amin(1, keepdim=True).clamp_max(0), rows.amax(1, keepdim=True).clamp_min(0)
    return straight_through(x, _rounded(rows, low, high).view(x.shape))


def quantize_range(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Activations on 256 values of a given range, which holds 0; values outside saturate."""
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    return straight_through(x, _rounded(x.detach(), low, high))


def _rounded(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    exact = torch.promote_types(x.dtype, torch.float32)  # bfloat16 cannot tell 256 values apart
    low = low.to(exact)
    scale = act_scale(low, high.to(exact))
    zero = (-low / scale).round()
    rounded = x.to(exact) / scale  # from here on in place, to save memory
    return rounded.round_().add_(zero).clamp_(0, ACT_TOP).sub_(zero).mul_(scale).to(x.dtype)


def quantize_bias(bias: Tensor, weight: Tensor, grid: Grid, low: Tensor, high: Tensor) -> Tensor:
    """A bias (out,) in whole multiples of input scale times weight scale.

    Integer convolutions add it to their sums as such.

    Args:
        bias: of the layer.
        weight: of the layer, before it was rounded.
        grid: to which it is rounded, with a scale for each channel or for the tensor.
        low: end of the range of the activations that enter.
        high: the other end.
    """
    unit = integers(weight.detach(), grid).scale[:, 0] * act_scale(low, high)
    return straight_through(bias, (bias.detach() / unit).round() * unit)


def act_scale(low: Tensor, high: Tensor) -> Tensor:
    """Distance of two values of an activation whose range holds 0."""
    return (high - low).clamp_min(TINY_RANGE) / ACT_TOP


def quantize_blocks(x: Tensor, block: int = BLOCK) -> Tensor:
    """Activations (..., C) on 255 symmetric values for every block of channels of each vector.

    ONNX Runtime's MatMulNBits does so at `accuracy_level=4`, before its integer kernel.
    """
    channels = x.shape[-1]
    blocks = F.pad(x.detach(), (0, -channels % block)).unflatten(-1, (-1, block))
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).clamp_min(TINY)
    rounded = ((blocks / scale).round() * scale).flatten(-2)[..., :channels]
    return straight_through(x, rounded)


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The rounded value with the gradient of the exact one."""
    return _StraightThrough.apply(x, rounded) if x.requires_grad else rounded  # pyright: ignore


class _StraightThrough(torch.autograd.Function):
    """Exactly the rounded value, which `x + (rounded - x).detach()` is only nearly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
