"""Routes: scores of a new router, from what tokens would miss."""

from __future__ import annotations

import torch
from torch import Tensor

from ...spaces.networks.routing import TokenRouter
from .ridge import ridge_step

SPREAD = 0.1  # of the scores that are asked for: few change what a token gets by over a tenth


@torch.no_grad()
def teach(router: TokenRouter, x: Tensor, wanted: Tensor, weights: Tensor) -> None:
    """Let a router choose the tokens to which most is to be added, as far as a line can tell.

    A token that is not chosen misses all that is added there; so the error of the stream is
    least where those stay out to which least is added. The norm of that, beside the mean of its
    image, is what the score is fitted to, by ridge regression.

    Args:
        router: whose score changes, in place.
        x: the stream (B, prefix + N, C) in front of it.
        wanted: what is to be added there.
        weights: of the tokens (B, prefix + N).
    """
    rows, size = x[:, router.prefix :], wanted[:, router.prefix :].norm(dim=2)
    away = size - size.mean(1, keepdim=True)
    goal = SPREAD * away / away.std().clamp_min(torch.finfo(size.dtype).tiny)
    router.score.weight.zero_()
    router.score.bias.zero_()
    row_weights = weights[:, router.prefix :].flatten()
    change, shift = ridge_step(rows.flatten(0, 1), goal.flatten()[:, None], row_weights)
    router.score.weight.add_(change)
    router.score.bias.add_(shift)
