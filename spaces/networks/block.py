"""ResidualBlock: norm, mixer, add; then norm, MLP, add."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, cast

from torch import Tensor, nn

from ..architecture import Architecture
from ..block import Place, among_chosen
from ..mixers import attribute_of, find
from .mlp import Mlp
from .norms import LayerScale, make_norm
from .reduction import REDUCTIONS
from .routing import ROUTERS, route


class ResidualBlock(nn.Module):
    """One block at its place.

    With `post_norm` both norms are on what is added to the stream.

    `mix` and `feed` are its two residual sub-blocks, the units whose cost is measured.

    Args:
        place: block and shapes.
        architecture: for norm, activation and layer scale, which all blocks share.
        index: of the block in its stage, by which random routers differ; below 4096.
    """

    def __init__(self, place: Place, architecture: Architecture, index: int = 0) -> None:
        super().__init__()
        block, traits, width = place.block, find(place.block.mixer), place.width
        norm, eps, layout = architecture.norm, architecture.norm_eps, traits.layout
        self.mixer, self.layout, self.residual = block.mixer, layout, traits.residual
        self.ranks_tokens, self.post_norm = traits.ranks_tokens, architecture.post_norm
        self.norm1 = make_norm(norm, width, eps, layout) if traits.pre_norm else nn.Identity()
        self.mixer_name = attribute_of(block.mixer)
        seen = among_chosen(place) if place.mixed else place
        self.add_module(self.mixer_name, mixer_class(traits.module)(seen))
        self.ls1 = (
            self._scale(architecture, width, block.mixer) if traits.residual else nn.Identity()
        )
        reduces = block.token_keep < 1
        self.reduction = REDUCTIONS[architecture.token_reduction](place) if reduces else None
        has_mlp = block.mlp_hidden > 0 and not traits.is_mlp
        router, kept = ROUTERS[architecture.token_routing], place.kept
        mixing = place.tokens, place.mixed, 1 << 12 | index
        self.mixer_router = router(place, *mixing) if place.mixed else None
        self.router = router(place, kept, place.routed, index) if place.routed else None
        self.norm2 = make_norm(norm, width, eps, layout) if has_mlp else None
        self.mlp = _mlp(place, architecture, layout) if has_mlp else None
        self.ls2 = self._scale(architecture, width, place.act) if has_mlp else nn.Identity()

    def _scale(self, architecture: Architecture, width: int, branch: str) -> nn.Module:
        if not architecture.layer_scale:
            return nn.Identity()
        return LayerScale(width, branch, self.layout)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) or grid (B, C, H, W), as `layout` says."""
        return self.feed(self.mix(x))

    def mix(self, x: Tensor) -> Tensor:
        """The mixer with its norm and residual, then token reduction where there is one.

        Where tokens are chosen, they see each other alone, as keys too (Mixture-of-Depths); and
        none is dropped.
        """
        if self.mixer_router is not None:
            return route(x, self.mixer_router, lambda chosen: self.ls1(self.branch(chosen)[0]))
        mixed, scores = self.branch(x)
        x = x + self.ls1(mixed) if self.residual else mixed
        return x if self.reduction is None else self.reduction(x, scores)

    def branch(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the mixer gives, and the map of attention by which tokens are dropped, if any."""
        mixer = cast("Any", self.get_submodule(self.mixer_name))
        x, scores = x if self.post_norm else self.norm1(x), None
        if self.reduction is not None and self.ranks_tokens:
            x, scores = mixer.with_scores(x)
        else:
            x = mixer(x)
        return self.norm1(x) if self.post_norm else x, scores

    def feed(self, x: Tensor) -> Tensor:
        """The MLP with its norm and residual, for all tokens or for those that are chosen."""
        if self.mlp is None:
            return x
        return x + self.update(x) if self.router is None else route(x, self.router, self.update)

    def update(self, x: Tensor) -> Tensor:
        """What the MLP adds to tokens."""
        assert self.mlp is not None and self.norm2 is not None
        if self.post_norm:
            return self.norm2(self.mlp(x))
        return self.ls2(self.mlp(self.norm2(x)))


def _mlp(place: Place, a: Architecture, layout: str) -> Mlp:
    return Mlp(
        *(place.width, place.block.mlp_hidden, place.act, layout),
        gated=a.mlp == "glu",
        norm=a.norm if a.mlp_norm else "",
        eps=a.norm_eps,
        bias=a.mlp_bias,
    )


@cache
def mixer_class(module: str) -> Callable[[Place], nn.Module]:
    """The class or function behind `Mixer.module`."""
    file, _, name = module.partition(":")
    return getattr(import_module(file, __package__), name)
