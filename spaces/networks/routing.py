"""Token routing with static shapes: a fixed number of tokens gets a branch, all keep their places.

Rows are taken and put back by `Gather` and `ScatterND` of whole rows, which ONNX Runtime runs two
to three times faster than `GatherElements` and `ScatterElements` of single numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..block import Place

Branch = Callable[[Tensor], Tensor]
ALWAYS = 3e4  # score above all others, also in half precision


class TokenRouter(nn.Module):
    """Choose tokens by a linear score (Mixture-of-Depths, Raposo et al., arXiv:2404.02258).

    Twice the sigmoid of its score scales what a chosen token gets, so that the score is trained,
    and a token of score 0 gets it as it is. Class tokens and registers are always chosen, and get
    all of it.

    Args:
        place: of the block.
        tokens: patch tokens to choose among.
        top: how many of them to choose.
        seed: of none.
    """

    def __init__(self, place: Place, tokens: int, top: int, seed: int) -> None:
        super().__init__()
        self.prefix, self.top = place.prefix, top
        self.score = nn.Linear(place.width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, prefix + N, C) -> places (B, prefix + K) and scales (B, prefix + K, 1)."""
        scores, n = self.score(x)[:, :, 0], self.prefix  # (B, prefix + N)
        if n:
            scores = torch.cat([scores.new_full((len(x), n), ALWAYS), scores[:, n:]], 1)
        best, index = scores.topk(n + self.top, 1)
        scale = 2 * best[:, n:].sigmoid()
        if n:
            scale = torch.cat([scale.new_ones(len(x), n), scale], 1)
        return index, scale[:, :, None]


class RandomRouter(nn.Module):
    """Choose a fixed random subset, another one by each seed: what any score has to beat.

    Args:
        place: of the block.
        tokens: patch tokens to choose among.
        top: how many of them to choose.
        seed: of the subset, below 65536.
    """

    index: Tensor

    def __init__(self, place: Place, tokens: int, top: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(tokens << 16 | seed)
        order = torch.randperm(tokens, generator=generator, device="cpu")
        chosen = order[:top].sort().values + place.prefix
        ahead = torch.arange(place.prefix, device="cpu")
        self.register_buffer("index", torch.cat([ahead, chosen]), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, prefix + N, C) -> places (B, prefix + K), and no scales."""
        return self.index.expand(x.shape[0], -1), None


ROUTERS: dict[str, type[TokenRouter | RandomRouter]] = {
    "learned": TokenRouter,
    "random": RandomRouter,
}


def route(x: Tensor, router: nn.Module, branch: Branch) -> Tensor:
    """Add what a branch gives to the tokens that a router chooses.

    Args:
        x: tokens (B, N, C) or grid (B, C, H, W).
        router: gives places and scales of tokens.
        branch: gets the chosen tokens in their order of choice, and gives what is added to each;
            same shape in and out, of the same layout as `x`; of a grid it gets (B, C, K, 1).
    """
    if x.ndim == 4:
        rows = route(
            x.flatten(2).transpose(1, 2),
            router,
            lambda t: branch(as_column(t))[..., 0].transpose(1, 2),
        )
        return rows.transpose(1, 2).unflatten(-1, x.shape[2:])
    index, scale = router(x)
    chosen = taken(x, index)
    update = branch(chosen)
    return returned(x, index, chosen + (update if scale is None else scale * update))


def taken(x: Tensor, index: Tensor) -> Tensor:
    """Rows (B, K, C) of `x` (B, N, C) at places (B, K)."""
    return x.flatten(0, 1).index_select(0, _flat(index, x)).unflatten(0, index.shape)


def returned(x: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """`x` (B, N, C) with rows (B, K, C) at places (B, K), which are all different."""
    flat = rows.flatten(0, 1).to(x.dtype)  # under autocast they may differ
    return x.flatten(0, 1).index_put((_flat(index, x),), flat).unflatten(0, x.shape[:2])


def as_column(rows: Tensor) -> Tensor:
    """Tokens (B, K, C) as a grid of one column (B, C, K, 1), for layers that look at one alone."""
    return rows.transpose(1, 2)[..., None]


def _flat(index: Tensor, x: Tensor) -> Tensor:
    """Places among the rows of all images."""
    before = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    return (index + before).flatten()
