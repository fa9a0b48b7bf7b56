"""Observers: what is known of the activations of a layer, from which their range is chosen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .quantise import quantise_range

SAMPLE = 4096  # values kept of every batch, for percentiles and errors
TAIL = 1e-4  # share of the values that a percentile range cuts off at each end
SHRINKS = torch.linspace(1.0, 0.3, 57)  # parts of the full range that are tried


class Observer:
    """Statistics of what enters one linear layer or convolution, batch after batch.

    Attributes:
        lows: smallest value of every input channel (C,).
        highs: largest value of every input channel (C,).
        result: lowest and highest value that left the layer (2,).
    """

    def __init__(self, module: nn.Module) -> None:
        self._axis = 1 if isinstance(module, nn.Conv2d) else -1
        self.lows = self.highs = torch.empty(0)
        self.result = torch.tensor([torch.inf, -torch.inf])
        self._sum = self._products = torch.zeros(())
        self._rows = 0
        self._sample: list[Tensor] = []

    @torch.no_grad()
    def see(self, x: Tensor, result: Tensor) -> None:
        """Take in what entered and what left."""
        rows = x.detach().movedim(self._axis, -1).flatten(0, -2)  # (N, C)
        low, high = rows.amin(0), rows.amax(0)
        self.lows = torch.minimum(self.lows, low) if self._rows else low
        self.highs = torch.maximum(self.highs, high) if self._rows else high
        ends = torch.stack([result.amin(), result.amax()]).detach()
        self.result[0], self.result[1] = min(self.result[0], ends[0]), max(self.result[1], ends[1])
        self._sum = self._sum + rows.sum(0)
        self._products = self._products + rows.T @ rows
        self._rows += len(rows)
        flat = rows.flatten()
        self._sample.append(flat[:: max(1, flat.numel() // SAMPLE)].clone())

    @property
    def mean(self) -> Tensor:
        """Mean of every input channel (C,)."""
        return self._sum / self._rows

    @property
    def gram(self) -> Tensor:
        """Mean product of every two input channels (C, C)."""
        return self._products / self._rows

    @property
    def sample(self) -> Tensor:
        """Some of the values that entered."""
        return torch.cat(self._sample)


Range = Callable[[Observer], Tensor]


def min_max(seen: Observer) -> Tensor:
    """From the smallest to the largest value (2,): nothing saturates."""
    return torch.stack([seen.lows.amin().clamp_max(0), seen.highs.amax().clamp_min(0)])


def percentile(seen: Observer) -> Tensor:
    """All but the outermost values (2,)."""
    ordered = seen.sample.sort().values
    cut = round(TAIL * len(ordered))
    return torch.stack([ordered[cut].clamp_max(0), ordered[len(ordered) - 1 - cut].clamp_min(0)])


def least_error(seen: Observer) -> Tensor:
    """The part of the full range (2,) whose 256 values are closest to the sample on average."""
    full, sample = min_max(seen), seen.sample
    tried = [full * shrink for shrink in SHRINKS]
    errors = [(quantise_range(sample, *ends) - sample).square().mean() for ends in tried]
    return tried[int(torch.stack(errors).argmin())]


RANGES: dict[str, Range] = {
    "min_max": min_max,
    "percentile": percentile,
    "least_error": least_error,
}
