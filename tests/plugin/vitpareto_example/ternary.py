"""Ternary weights: every output channel has one size, and weights are minus it, zero, or it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitpareto.spaces.transforms import Transform

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 0.7  # of the mean magnitude; weights below become zero


def ternarize(weight: Tensor, wanted: bool) -> Tensor:
    """Weights (out, ...) with three values a row (Li et al., arXiv:1605.04711)."""
    if not wanted:
        return weight
    rows = weight.flatten(1)
    kept = rows.abs() > SMALL * rows.abs().mean(1, keepdim=True)
    size = (rows.abs() * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(1)
    return (rows.sign() * kept * size).view_as(weight)


TERNARY = Transform(
    "ternary",
    False,
    "weights of an output channel are -s, 0 or s",
    values=(False, True),
    apply="vitpareto_example.ternary:ternarize",
    ramp=lambda wanted, done: wanted and done >= 0.5,  # in the middle of the ramp
    bits=lambda bits, _: min(bits, 2),
)
