"""Ranges: the observer of each activation is chosen by what the layers that read it put out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from .observe import RANGES, Observer
from .quantize import TINY, quantize_range


class Reader(NamedTuple):
    """A layer that reads an activation.

    Attributes:
        module: the layer.
        weight: as it is before rounding (out, ...).
        rounded: the same on the grid of its recipe.
        seen: its inputs.
    """

    module: nn.Module
    weight: Tensor
    rounded: Tensor
    seen: Observer

    def error(self, ends: Tensor) -> float:
        """Squared error of the outputs with a range (2,), relative to the outputs."""
        x = self.seen.inputs
        exact = self._output(x, self.weight)
        found = self._output(quantize_range(x, *ends), self.rounded)
        return ((found - exact).square().sum() / exact.square().sum().clamp_min(TINY)).item()

    def _output(self, x: Tensor, weight: Tensor) -> Tensor:
        m = self.module
        if isinstance(m, nn.Conv2d):
            return F.conv2d(x, weight, None, m.stride, m.padding, m.dilation)  # pyright: ignore[reportArgumentType]
        return F.linear(x, weight)


Choose = Callable[[Sequence[Reader]], str]  # the layers that read an activation -> its observer


def closest(readers: Sequence[Reader]) -> str:
    """The observer of `RANGES` whose range changes what all readers put out the least.

    Never worse than the smallest and largest value, which wins where others are no better.
    """
    tried = {name: find(readers[0].seen) for name, find in RANGES.items()}
    errors = {n: sum(reader.error(ends) for reader in readers) for n, ends in tried.items()}
    return min(errors, key=lambda name: errors[name])
