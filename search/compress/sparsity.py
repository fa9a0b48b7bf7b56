"""Sparsity: weights set to zero, anywhere or in a pattern that hardware can use."""

from __future__ import annotations

import torch
from torch import Tensor

from ...spaces.transforms.sparsity import BLOCK, kept_of
from .quantize import straight_through


def mask(weight: Tensor, share: float, importance: Tensor | None = None) -> Tensor:
    """True where a weight (out, ...) stays: the most important ones of every output channel.

    Ranking row by row gives the same mask before and after a scale per output channel is
    folded into the layer, as batch norm and layer scale are.

    Args:
        weight: of a layer.
        share: of zeros, in [0, 1).
        importance: of each weight; its magnitude by default.
    """
    rows = (weight.detach().abs() if importance is None else importance).flatten(1)
    return _largest(rows, kept_of(rows.shape[1], share)).view_as(weight)


def mask_n_m(weight: Tensor, n: int, m: int, importance: Tensor | None = None) -> Tensor:
    """True where a weight (out, ...) stays: the n most important of every m inputs in a row.

    2:4 is what sparse tensor cores multiply at twice the rate (Mishra et al.,
    arXiv:2104.08378). Inputs that do not fill a last group all stay.

    Args:
        weight: of a layer.
        n: weights that stay in a group.
        m: inputs in a group.
        importance: of each weight; its magnitude by default.
    """
    rows = (weight.detach().abs() if importance is None else importance).flatten(1)
    whole = rows.shape[1] // m * m
    kept = torch.ones_like(rows, dtype=torch.bool)
    kept[:, :whole] = _largest(rows[:, :whole].reshape(-1, m), n).view(len(rows), whole)
    return kept.view_as(weight)


def mask_blocks(weight: Tensor, share: float) -> Tensor:
    """True where a weight (out, ...) stays: the blocks of every output channel with most in them.

    A block is 16 inputs in a row, as sparse kernels of processors take them (Elsen et al.,
    arXiv:1911.09723). Inputs that do not fill a last block all stay.
    """
    rows = weight.detach().abs().flatten(1)
    kept = torch.ones_like(rows, dtype=torch.bool)
    if blocks := rows.shape[1] // BLOCK:
        whole = blocks * BLOCK
        sums = rows[:, :whole].unflatten(1, (-1, BLOCK)).sum(2)
        kept[:, :whole] = _largest(sums, kept_of(blocks, share)).repeat_interleave(BLOCK, 1)
    return kept.view_as(weight)


def follows_n_m(weight: Tensor, n: int, m: int) -> bool:
    """Whether no m inputs in a row of a weight (out, ...) have more than n that are not zero."""
    rows = weight.detach().flatten(1)
    whole = rows.shape[1] // m * m
    return bool(((rows[:, :whole].reshape(-1, m) != 0).sum(1) <= n).all())


def sparsify(weight: Tensor, share: float, importance: Tensor | None = None) -> Tensor:
    """A weight with `share` of it zero.

    The gradient reaches the zeros too, so that training can bring them back (Zhou et al.,
    arXiv:2102.04010); multiply by a fixed `mask` where they should stay.
    """
    if not share:
        return weight
    return straight_through(weight, weight.detach() * mask(weight, share, importance))


def sparsify_blocks(weight: Tensor, share: float) -> Tensor:
    """A weight with `share` of its blocks zero."""
    return straight_through(weight, weight.detach() * mask_blocks(weight, share))


def sparsify_n_m(weight: Tensor, pattern: str) -> Tensor:
    """A weight with a pattern such as "2:4" of values that are not zero."""
    n, m = map(int, pattern.split(":"))
    return straight_through(weight, weight.detach() * mask_n_m(weight, n, m))


def _largest(rows: Tensor, count: int) -> Tensor:
    """True at the `count` largest of every row."""
    kept = torch.zeros_like(rows, dtype=torch.bool)
    return kept.scatter_(1, rows.topk(count, 1).indices, True)
