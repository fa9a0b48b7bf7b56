"""Sparsity: weights that are zero, anywhere or in a pattern that hardware can use.

Files hold what is not zero, and where it is; kernels are dense, so that nothing becomes faster.
"""

from __future__ import annotations

from .transform import Transform

BLOCK = 16  # inputs of an output channel that are zero together


def thinned(share: float, done: float) -> float:
    """Zeros at a point of the ramp, the cubic of Zhu and Gupta (arXiv:1710.01878).

    Fast while much is superfluous, slow at the end.
    """
    return share * (1 - (1 - done) ** 3)


def kept_of(inputs: int, share: float) -> int:
    """Weights that stay of the inputs of an output channel: one at least, or it sees nothing."""
    return max(1, round(inputs * (1 - share)))


def kept_in_blocks(inputs: int, share: float) -> int:
    """Weights that stay where whole blocks go, one of them at least, and what fills no block."""
    blocks = inputs // BLOCK
    return inputs - BLOCK * (blocks - kept_of(blocks, share)) if blocks else inputs


def kept_of_pattern(inputs: int, pattern: str) -> int:
    """Weights that a pattern such as "2:4" leaves; inputs that fill no group all stay."""
    n, m = map(int, pattern.split(":")) if pattern else (1, 1)
    return inputs - (m - n) * (inputs // m)


SPARSITY = Transform(
    "sparsity",
    0.0,
    "share of zero weights",
    range=(0, 0.99),
    apply=".sparsity:sparsify",
    ramp=thinned,
    kept=kept_of,
)
BLOCK_SPARSITY = Transform(
    "block_sparsity",
    0.0,
    f"share of zero blocks, each of {BLOCK} weights in a row",
    range=(0, 0.99),
    apply=".sparsity:sparsify_blocks",
    ramp=thinned,
    kept=kept_in_blocks,
    run=BLOCK,
)
N_M = Transform(
    "n_m",
    "",
    "at most n of every m weights in a row are not zero, as n:m",
    values=("", "4:8", "2:4", "1:4"),
    apply=".sparsity:sparsify_n_m",
    kept=kept_of_pattern,
)
