"""Low rank: a matrix as the product of two thin ones, cut where the layer's own inputs say.

Plain truncation keeps the weights close; weighted by the inputs' second moments it keeps the
outputs close (Chen et al., DRONE, NeurIPS 2021; Wang et al., SVD-LLM, arXiv:2403.07378).
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-7  # of the largest second moment: directions in which the inputs hardly vary


def factors(weight: Tensor, rank: int, gram: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The two factors of a matrix, of equal size: (out, rank) and (rank, in).

    The right factor is a constant; gradients reach the weight through the left one, so that
    training moves the matrix inside the space that was kept.

    Args:
        weight: (out, in).
        rank: columns that are kept.
        gram: second moments of the inputs (in, in), `Observer.gram`; their average output
            error is then the least possible at this rank. All directions alike by default.
    """
    with torch.no_grad():
        root, inverse = _roots(gram) if gram is not None else (None, None)
        whitened = weight if root is None else weight @ root
        _, values, right = torch.linalg.svd(whitened, full_matrices=False)
        scale = values[:rank].clamp_min(torch.finfo(weight.dtype).tiny).sqrt()
        read = right[:rank].T / scale  # (in, rank), takes the weight to its left factor
        right = scale[:, None] * right[:rank]
        if root is not None and inverse is not None:
            read, right = root @ read, right @ inverse
    return weight @ read, right


def truncated(weight: Tensor, rank: int, gram: Tensor | None = None) -> Tensor:
    """The matrix (out, in) of that rank, the product of its `factors`."""
    left, right = factors(weight, rank, gram)
    return left @ right


def _roots(gram: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix whose square by its transpose is `gram`, and its inverse."""
    values, vectors = torch.linalg.eigh(gram.double())
    size = values.clamp_min(FLOOR * values[-1]).sqrt()
    return (vectors * size).to(gram.dtype), (vectors / size).T.to(gram.dtype)
