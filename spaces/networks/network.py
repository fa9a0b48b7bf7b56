"""Network: an architecture as a plain torch module under timm's names."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import Architecture
from ..block import Place
from ..places import places
from ..rules import check
from .block import ResidualBlock
from .norms import make_norm
from .sharing import Shared
from .stems import ConvDownsample, ConvStem, PatchEmbed, PatchMerging


class NetworkStage(nn.Module):
    """Blocks of one width, after the downsampling that leads to their grid."""

    def __init__(
        self, placed: tuple[Place, ...], before: Place | None, downsample: str, a: Architecture
    ) -> None:
        super().__init__()
        self.grid = placed[0].grid
        self.downsample: nn.Module | None = None
        if before and downsample == "merge":
            self.downsample = PatchMerging(
                before.width, placed[0].width, before.grid, a.norm, a.norm_eps
            )
        elif before:
            self.downsample = ConvDownsample(before.width, placed[0].width)
        self.blocks = nn.ModuleList(ResidualBlock(place, a) for place in placed)

    def modules_in_order(self) -> Iterator[nn.Module]:
        """Downsampling, if any, and blocks; each has a `layout`."""
        if self.downsample is not None:
            yield self.downsample
        yield from self.blocks


class Network(nn.Module):
    """A vision transformer, isotropic, windowed or hybrid, as its architecture says.

    With the same settings and weights it gives timm's logits. Nothing in it is elastic.

    Args:
        architecture: what to build.

    Attributes:
        compressed: whether its weights are as its candidate's policies say, up to rounding.

    Raises:
        SpaceError: a combination that cannot work, with the reason.
    """

    compressed = False

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        check(architecture)
        a = self.architecture = architecture
        placed = places(a)
        width, last = placed[0][0].width, placed[-1][-1].width
        self.patch_embed = (
            PatchEmbed(a.in_chans, width, a.patch_size)
            if a.stem == "patch"
            else ConvStem(a.in_chans, width, a.patch_size, a.act)
        )
        self.norm_pre = make_norm(a.norm, width, a.norm_eps) if a.stem_norm else None
        self.shared: dict[str, Shared] = {}
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if a.prefix else None
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width)) if a.prefix > 1 else None
        self.pos_embed = None
        if a.pos_embed == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, a.prefix + a.grid**2, width))
            self.shared["pos_embed"] = self._position_rule(width)
        self.stages = nn.ModuleList(
            NetworkStage(stage, placed[i - 1][-1] if i else None, a.stages[i].downsample, a)
            for i, stage in enumerate(placed)
        )
        self.norm = make_norm(a.norm, last, a.norm_eps)
        self.head = nn.Linear(last, a.num_classes)
        self.head_dist = nn.Linear(last, a.num_classes) if a.prefix > 1 else None
        if not self.head.weight.is_meta:
            self.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, S, S) -> logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, S, S) -> normalized tokens (B, N, C)."""
        x, layout = self.patch_embed(x), "grid"
        if self.norm_pre or self.cls_token is not None or self.pos_embed is not None:
            x, layout = self.embed(to_tokens(x)), "tokens"
        for stage in self.stages:
            assert isinstance(stage, NetworkStage)
            for module in stage.modules_in_order():
                wanted = str(module.layout)
                if wanted != layout:
                    x = to_tokens(x) if wanted == "tokens" else to_grid(x)
                x, layout = module(x), wanted
        return self.norm(x if layout == "tokens" else to_tokens(x))

    def embed(self, x: Tensor) -> Tensor:
        """Norm, class tokens and positions: (B, N, C) -> (B, prefix + N, C)."""
        if self.norm_pre is not None:
            x = self.norm_pre(x)
        prefix = [t for t in (self.cls_token, self.dist_token) if t is not None]
        if prefix:
            x = torch.cat([*(t.expand(x.shape[0], -1, -1) for t in prefix), x], 1)
        return x if self.pos_embed is None else x + self.pos_embed

    def forward_head(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> logits (B, num_classes), the mean of both heads if there are two."""
        logits = self.forward_heads(x)
        return logits[0] if len(logits) == 1 else (logits[0] + logits[1]) / 2

    def forward_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Tokens (B, N, C) -> logits of the class head, and of the distillation head."""
        if self.head_dist is not None:
            return self.head(x[:, 0]), self.head_dist(x[:, 1])
        return (self.head(x[:, 0] if self.architecture.prefix else x.mean(1)),)

    def init_weights(self) -> None:
        """Timm's initialization: truncated normal weights, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if "bias" in module.state_dict():
                    nn.init.zeros_(module.bias)
        for table in (self.pos_embed, self.cls_token, self.dist_token):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    def _position_rule(self, width: int) -> Shared:
        side, prefix = self.architecture.grid, self.architecture.prefix

        def fold(table: Tensor) -> Tensor:
            return _resize_positions(table, prefix, side)

        def unfold(table: Tensor, shape: torch.Size) -> Tensor:
            return _resize_positions(table, prefix, round((shape[1] - prefix) ** 0.5))

        return Shared((1, prefix + side**2, width), "_ whole _", fold, unfold)


def _resize_positions(table: Tensor, prefix: int, side: int) -> Tensor:
    """(1, prefix + G * G, C) -> (1, prefix + side * side, C)."""
    if table.shape[1] == prefix + side**2:
        return table
    old = round((table.shape[1] - prefix) ** 0.5)
    grid = table[:, prefix:].transpose(1, 2).unflatten(-1, (old, old))
    resized = F.interpolate(grid, (side, side), mode="bicubic", antialias=True)
    return torch.cat([table[:, :prefix], to_tokens(resized)], 1)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def to_grid(x: Tensor) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W) of a square grid."""
    side = round(int(x.shape[1]) ** 0.5)  # int: a traced shape is a tensor
    return x.transpose(1, 2).unflatten(-1, (side, side))
