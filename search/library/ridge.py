"""Ridge: a linear layer moved, in closed form, to where its outputs are closest to a target."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.1  # of the mean second moment of the inputs, by which every weight is held


def ridge_step(
    inputs: Tensor, errors: Tensor, row_weights: Tensor, biased: bool = True
) -> tuple[Tensor, Tensor]:
    """Change of weight and bias that takes most of the errors away.

    Ridge regression of the errors on the inputs: the weight is drawn to where it is, the bias is
    free. Weighted by `row_weights`, the squared error never grows.

    Args:
        inputs: of the layer (R, in).
        errors: target minus output (R, out).
        row_weights: of the rows (R,), not negative.
        biased: whether the layer has a bias.

    Returns:
        Change of the weight (out, in), and of the bias (out,).
    """
    total = row_weights.sum()
    mean_input = row_weights @ inputs / total * biased
    mean_error = row_weights @ errors / total * biased
    centered = inputs - mean_input
    scaled = centered * row_weights[:, None]
    gram, cross = (scaled.T @ centered).double(), (scaled.T @ (errors - mean_error)).double()
    held = RIDGE * gram.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    gram.diagonal().add_(held)
    factor = torch.linalg.cholesky(gram)  # positive definite, as it is held far above rounding
    change = torch.cholesky_solve(cross, factor).T.to(inputs)
    return change, mean_error - change @ mean_input
