"""Observers: statistics of the activations of a layer, from which their range is chosen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .quantize import quantize_range

SAMPLE = 4096  # values kept of every batch, for percentiles and errors
TAIL = 1e-4  # share of the values that a percentile range cuts off at each end
SHRINKS = torch.linspace(1.0, 0.3, 57)  # parts of the full range that are tried


class Observer:
    """Statistics of the activations around one linear layer or convolution, batch after batch.

    Attributes:
        lows: smallest value of every input channel (C,).
        highs: largest value of every input channel (C,).
        left: lowest and highest output of the layer; the range between them holds 0.
    """

    def __init__(self, module: nn.Module) -> None:
        self._axis = 1 if isinstance(module, nn.Conv2d) else -1
        self.lows = self.highs = torch.empty(0)
        self.left = (0.0, 0.0)
        self._products = self._left_sum = torch.zeros(())
        self._rows = self._left_rows = 0
        self._sample: list[Tensor] = []

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Add inputs of the layer."""
        rows = self.rows(x)
        low, high = rows.amin(0), rows.amax(0)
        self.lows = torch.minimum(self.lows, low) if self._rows else low
        self.highs = torch.maximum(self.highs, high) if self._rows else high
        self._products = self._products + rows.T @ rows
        self._rows += len(rows)
        self._sample.append(self._some(rows.flatten()))

    @torch.no_grad()
    def see_result(self, y: Tensor) -> None:
        """Add outputs of the layer."""
        rows = self.rows(y)
        self.left = (min(self.left[0], y.amin().item()), max(self.left[1], y.amax().item()))
        self._left_sum = self._left_sum + rows.sum(0)
        self._left_rows += len(rows)

    def rows(self, x: Tensor) -> Tensor:
        """Activations of the layer, a row for every position: (N, C)."""
        return x.detach().movedim(self._axis, -1).flatten(0, -2)

    def _some(self, values: Tensor) -> Tensor:
        """Some values at random, the same ones each time; regular steps could miss channels."""
        if len(values) <= SAMPLE:
            return values.clone()
        generator = torch.Generator().manual_seed(self._rows)
        return values[torch.randint(len(values), (SAMPLE,), generator=generator).to(values.device)]

    @property
    def left_mean(self) -> Tensor:
        """Mean of every output channel (C',)."""
        return self._left_sum / self._left_rows

    @property
    def gram(self) -> Tensor:
        """Mean product of every two input channels (C, C)."""
        return self._products / self._rows

    @property
    def sample(self) -> Tensor:
        """Some of the input values."""
        return torch.cat(self._sample)


Range = Callable[[Observer], Tensor]


def min_max(seen: Observer) -> Tensor:
    """Range from the smallest to the largest value (2,): nothing saturates."""
    return torch.stack([seen.lows.amin().clamp_max(0), seen.highs.amax().clamp_min(0)])


def percentile(seen: Observer) -> Tensor:
    """Range (2,) of all but the outermost values."""
    ordered = seen.sample.sort().values
    cut = round(TAIL * len(ordered))
    return torch.stack([ordered[cut].clamp_max(0), ordered[len(ordered) - 1 - cut].clamp_min(0)])


def least_error(seen: Observer) -> Tensor:
    """The part of the full range (2,) whose 256 values are closest to the sample on average."""
    full, sample = min_max(seen), seen.sample
    tried = [full * shrink for shrink in SHRINKS]
    errors = [(quantize_range(sample, *ends) - sample).square().mean() for ends in tried]
    return tried[int(torch.stack(errors).argmin())]


RANGES: dict[str, Range] = {
    "min_max": min_max,
    "percentile": percentile,
    "least_error": least_error,
}


def chosen_range(seen: Observer, name: str) -> Tensor:
    """The range (2,) that one of `RANGES` chooses."""
    return RANGES[name](seen)
