"""Low rank: a matrix as the product of two thin ones, cut where the inputs of the layer lose least.

Plain truncation keeps the weights close; weighted by the inputs' second moments it keeps the
outputs close (Chen et al., DRONE, NeurIPS 2021; Wang et al., SVD-LLM, arXiv:2403.07378).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...spaces.ops import rank

RIDGE = 1e-3  # of the mean second moment, added in every direction so that none has weight 0


def factors(weight: Tensor, rank: int, gram: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The two factors of a matrix: (out, rank) and (rank, in).

    The right factor is a constant; gradients reach the weight through the left one, so that
    training moves the matrix inside the space that was kept.

    Args:
        weight: (out, in).
        rank: columns that are kept.
        gram: as for `directions`.
    """
    read, right = directions(weight, rank, gram)
    return weight @ read, right


def truncated(weight: Tensor, rank: int, gram: Tensor | None = None) -> Tensor:
    """The matrix (out, in) of that rank, the product of its `factors`."""
    left, right = factors(weight, rank, gram)
    return left @ right


class Factored(nn.Sequential):
    """Two linear layers that stand for one."""


def factorized(layer: nn.Linear, read: Tensor) -> Factored:
    """Two linear layers for one whose weight has the rank already.

    Args:
        layer: its weight may have been scaled by row and column since.
        read: from `directions`, of the weight before: (in, rank).
    """
    biased = "bias" in layer.state_dict()
    with torch.random.fork_rng(devices=[]):  # their first weights are replaced
        first = nn.Linear(layer.in_features, read.shape[1], bias=False)
        second = nn.Linear(read.shape[1], layer.out_features, bias=biased)
    with torch.no_grad():
        left = (layer.weight @ read).double()
        first.weight.copy_(torch.linalg.lstsq(left, layer.weight.double()).solution)
        second.weight.copy_(left)
        if biased:
            second.bias.copy_(layer.bias)
    return Factored(first, second)


def projection(
    weight: Tensor, ratio: float, gram: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """`directions` at a share of full rank; None where two factors would not be smaller."""
    kept = rank(weight.shape[1], weight.shape[0], ratio)
    return directions(weight, kept, gram) if kept else None


@torch.no_grad()
def directions(weight: Tensor, rank: int, gram: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Directions of the inputs that are kept: (in, rank), and their left inverse (rank, in).

    Between the factors that they make, activations have equal variance and no correlation,
    which suits integers.

    Args:
        weight: (out, in).
        rank: number of directions.
        gram: second moments of the inputs (in, in), `Observer.gram`; the average error of the
            outputs is then the least possible at this rank. All inputs alike by default.
    """
    weight = weight.detach()
    if gram is None:
        right = torch.linalg.svd(weight, full_matrices=False).Vh[:rank]
        return right.T, right
    values, vectors = torch.linalg.eigh(gram)
    size = (values.clamp_min(0) + RIDGE * values.mean()).sqrt()
    root, inverse = vectors * size, (vectors / size).T  # root @ root.T is the gram matrix
    right = torch.linalg.svd(weight @ root, full_matrices=False).Vh[:rank]
    return root @ right.T, right @ inverse
