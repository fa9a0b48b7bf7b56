"""Sparsity: weights that are zero, anywhere or in a pattern that hardware can use."""

from __future__ import annotations

from .transform import Transform


def thinned(share: float, done: float) -> float:
    """Zeros at a point of the ramp, the cubic of Zhu and Gupta (arXiv:1710.01878).

    Fast while much is superfluous, slow at the end.
    """
    return share * (1 - (1 - done) ** 3)


SPARSITY = Transform(
    "sparsity",
    0.0,
    "share of zero weights",
    range=(0, 0.99),
    apply=".sparsity:sparsify",
    ramp=thinned,
)
N_M = Transform(
    "n_m",
    "",
    "at most n of every m weights in a row are not zero, as n:m",
    values=("", "4:8", "2:4", "1:4"),
    apply=".sparsity:sparsify_n_m",
)
