"""Observers: statistics of the activations of a layer, from which their range is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .quantize import ACT_TOP, TINY_RANGE, quantize_range

SAMPLE = 1 << 16  # values kept of every batch, for percentiles and outputs
FEWEST_ROWS = 64  # of them, however wide
WHOLE = 4  # images kept of every batch that enters a convolution
TAIL = 1e-4  # share of the values that a percentile range cuts off at each end
# Parts of the wider side of a range that are tried.
SHRINKS = torch.cat([torch.linspace(1, 0.3, 36), torch.logspace(-0.6, -2, 12)])
LEVELS = ACT_TOP + 1
BINS = 4096  # of the histogram whose entropy is compared


class Observer:
    """Statistics of the activations around one linear layer or convolution, batch after batch.

    Attributes:
        lows: smallest value of every input channel (C,).
        highs: largest value of every input channel (C,).
        left: lowest and highest output of the layer; the range between them holds 0.
    """

    def __init__(self, module: nn.Module) -> None:
        self._is_conv = isinstance(module, nn.Conv2d)
        self.lows = self.highs = torch.empty(0)
        self.left = (0.0, 0.0)
        self._products = self._left_sum = torch.zeros(())
        self._rows = self._left_rows = 0
        self._sample: list[Tensor] = []
        self._whole: list[Tensor] = []

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Add inputs of the layer."""
        rows = self.rows(x)
        low, high = rows.amin(0), rows.amax(0)
        self.lows = torch.minimum(self.lows, low) if self._rows else low
        self.highs = torch.maximum(self.highs, high) if self._rows else high
        self._products = self._products + rows.T @ rows
        self._rows += len(rows)
        self._sample.append(self._some(rows))
        if self._is_conv:
            self._whole.append(x[:WHOLE].clone())

    @torch.no_grad()
    def see_result(self, y: Tensor) -> None:
        """Add outputs of the layer."""
        rows = self.rows(y)
        self.left = (min(self.left[0], y.amin().item()), max(self.left[1], y.amax().item()))
        self._left_sum = self._left_sum + rows.sum(0)
        self._left_rows += len(rows)

    def rows(self, x: Tensor) -> Tensor:
        """Activations of the layer, a row for every position: (N, C)."""
        return x.detach().movedim(1 if self._is_conv else -1, -1).flatten(0, -2)

    def _some(self, rows: Tensor) -> Tensor:
        """Some rows at random, the same ones each time; regular steps could miss positions."""
        count = max(FEWEST_ROWS, SAMPLE // rows.shape[1])
        if len(rows) <= count:
            return rows.clone()
        generator = torch.Generator().manual_seed(self._rows)
        return rows[torch.randint(len(rows), (count,), generator=generator).to(rows.device)]

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
        """Some of the input values (n,)."""
        return torch.cat(self._sample).flatten()

    @property
    def inputs(self) -> Tensor:
        """Some of the inputs: rows (n, C) of a linear layer, images (n, C, H, W) of another."""
        return torch.cat(self._whole if self._is_conv else self._sample)


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
    """The range (2,) whose 256 values are closest to the sample on average."""
    sample = seen.sample  # all of it: few large values make most of an error
    tried = _narrower(min_max(seen))
    errors = [(quantize_range(sample, *ends) - sample).square().mean() for ends in tried]
    return tried[int(torch.stack(errors).argmin())]


def entropy(seen: Observer) -> Tensor:
    """The range (2,) whose rounding changes the histogram of the sample the least.

    That is the Kullback-Leibler divergence of TensorRT's calibration (Migacz, GTC 2017), with a
    zero point.
    """
    full, sample = min_max(seen), seen.sample
    low, high = full.tolist()
    high = max(high, low + TINY_RANGE)
    counts = torch.histc(sample, BINS, low, high).double().cpu().numpy()
    tried = _narrower(full)
    parts = ((torch.stack(tried) - low) / (high - low)).tolist()
    return tried[int(np.argmin([_divergence(counts, *part) for part in parts]))]


def _narrower(full: Tensor) -> list[Tensor]:
    """A range (2,), and ranges whose wider side is cut, and the other no further than that."""
    most = full.abs().max()
    return [full.clamp(-most * share, most * share) for share in SHRINKS]


def _divergence(counts: NDArray[np.float64], start: float, end: float) -> float:
    """How far a histogram is from what 256 values leave of a part of it, both ends in [0, 1].

    Infinite for a part of fewer bins than values, which the histogram is too coarse to judge.
    """
    first, last = int(start * BINS), max(int(start * BINS) + 1, round(end * BINS))
    if last - first < LEVELS:
        return math.inf
    inside = counts[first:last]
    clipped = inside.copy()  # what saturates is counted at the ends
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    begins = -(-np.arange(LEVELS) * len(inside) // LEVELS)  # first bin of each value
    held = inside > 0
    count = np.maximum(np.add.reduceat(held, begins, dtype=int), 1)
    share = np.add.reduceat(inside, begins) / count
    rounded = np.where(held, np.repeat(share, np.diff(begins, append=len(inside))), 0.0)
    before, after = clipped / clipped.sum(), rounded / max(rounded.sum(), TINY_RANGE)
    told = before > 0
    ratio = before[told] / np.maximum(after[told], TINY_RANGE)
    return float((before[told] * np.log(ratio)).sum())


RANGES: dict[str, Range] = {
    "min_max": min_max,
    "percentile": percentile,
    "least_error": least_error,
    "entropy": entropy,
}
