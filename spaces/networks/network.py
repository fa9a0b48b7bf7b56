"""Network: an architecture as a plain torch module under timm's names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import CLASS_TOKENS, HALVING, Architecture
from ..block import Place
from ..exits import exits_of
from ..places import places
from ..rules import check
from .block import ResidualBlock
from .exits import ExitHead
from .norms import make_act, make_norm
from .pooling import AttentionPool
from .sharing import Shared
from .stems import ONE_CONVOLUTION, ConvStem, make_downsample


class NetworkStage(nn.Module):
    """Blocks of one width, after the downsampling that leads to their grid."""

    def __init__(
        self, placed: tuple[Place, ...], before: Place | None, a: Architecture, i: int
    ) -> None:
        super().__init__()
        self.grid = placed[0].grid
        self.downsample: nn.Module | None = None
        if before:
            around = before.width, before.grid, a.norm, a.norm_eps, a.act_of(i)
            self.downsample = make_downsample(a.stages[i], *around, a.reparam, a.se_gate)
        self.blocks = nn.ModuleList(ResidualBlock(place, a, j) for j, place in enumerate(placed))
        own = a.stages[i]
        self.exits = nn.ModuleDict({str(n): ExitHead(a, own.width) for n in exits_of(own.exits)})

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
            ConvStem(a.in_chans, width, a.patch_size, a.act, kind=a.stem, reparam=a.reparam)
            if a.stem in HALVING
            else ONE_CONVOLUTION[a.stem](a.in_chans, width, a.patch_size, a.stem_bias)
        )
        self.norm_stem = make_norm(a.norm, width, a.norm_eps) if a.stem_norm else None
        self.shared: dict[str, Shared] = {}
        self.cls_token = _token(width) if a.class_tokens else None
        self.dist_token = _token(width) if a.class_tokens > 1 else None
        self.reg_token = _token(width, a.registers) if a.registers else None
        self.pos_embed = None
        if a.pos_embed in ("learned", "patches"):
            prefix = a.prefix if a.pos_embed == "learned" else 0
            self.pos_embed = nn.Parameter(torch.zeros(1, prefix + a.grid**2, width))
            self.shared["pos_embed"] = _position_rule(width, a)
        self.norm_pre = make_norm(a.norm, width, a.norm_eps) if a.pre_norm else None
        self.stages = nn.ModuleList(
            NetworkStage(stage, placed[i - 1][-1] if i else None, a, i)
            for i, stage in enumerate(placed)
        )
        self.norm = _final_norm(a, "tokens", last)
        self.attn_pool = AttentionPool(last, a) if a.global_pool == "map" else None
        self.fc_norm = _final_norm(a, "pooled", last)
        own = a.global_pool == "avg_distill" and a.final_norm == "pooled"
        self.fc_norm_dist = _final_norm(a, "pooled", last) if own else None
        has_layer = a.head_hidden > 0
        self.pre_logits = nn.Linear(last, a.head_hidden, not a.head_norm) if has_layer else None
        self.norm_head = make_norm(a.norm, a.head_hidden, a.norm_eps) if a.head_norm else None
        self.act = make_act(a.act) if has_layer else None
        self.head = self._head(a.head_hidden or last)
        self.head_dist = self._head(last) if a.heads > 1 else None
        if not next(self.parameters()).is_meta:
            self.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, S, S) -> logits (B, num_classes), or features (B, C) of no head."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, S, S) -> normalized tokens (B, N, C)."""
        *_, (last, layout) = self.stage_outputs(x)
        return self.norm(last if layout == "tokens" else to_tokens(last))

    def stage_outputs(self, x: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Images (B, in_chans, S, S) -> what leaves each stage in order, and its layout.

        That is "tokens" (B, prefix + N, C) or "grid" (B, C, H, W), as its last block has it.
        """
        x, layout = self.enter(x)
        for stage in self.stages:
            assert isinstance(stage, NetworkStage)
            for module in stage.modules_in_order():
                x, layout = passed(module, x, layout)
            yield x, layout

    def enter(self, x: Tensor) -> tuple[Tensor, str]:
        """Images (B, in_chans, S, S) -> what the first block gets, and its layout."""
        x = self.patch_embed(x)
        return (self.embed(to_tokens(x)), "tokens") if self.embeds else (x, "grid")

    def leave(self, x: Tensor, layout: str) -> Tensor:
        """What the last block gives, in its layout -> logits (B, num_classes)."""
        return self.forward_head(self.norm(x if layout == "tokens" else to_tokens(x)))

    def embed(self, x: Tensor) -> Tensor:
        """Norms, other tokens and positions: (B, N, C) -> (B, prefix + N, C)."""
        if self.norm_stem is not None:
            x = self.norm_stem(x)
        if self.pos_embed is not None and self.architecture.pos_embed == "patches":
            x = x + self.pos_embed
        tokens = (self.cls_token, self.dist_token, self.reg_token)
        prefix = [token for token in tokens if token is not None]
        if prefix:
            x = torch.cat([*(t.expand(x.shape[0], -1, -1) for t in prefix), x], 1)
        if self.pos_embed is not None and self.architecture.pos_embed == "learned":
            x = x + self.pos_embed
        return x if self.norm_pre is None else self.norm_pre(x)

    @property
    def embeds(self) -> bool:
        """Whether `embed` does anything."""
        parts = (self.norm_stem, self.norm_pre, self.pos_embed)
        return self.architecture.prefix > 0 or any(part is not None for part in parts)

    def forward_head(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> logits (B, num_classes), the mean of both heads if there are two."""
        logits = self.forward_heads(x)
        return logits[0] if len(logits) == 1 else (logits[0] + logits[1]) / 2

    def forward_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Tokens (B, N, C) -> logits of the class head, and of the distillation head."""
        if self.head_dist is not None:
            tokens = self.dist_token is not None
            own, other = (x[:, 0], x[:, 1]) if tokens else (self.pool(x),) * 2
            norm = self.fc_norm_dist or self.fc_norm
            return self.head(self.fc_norm(own)), self.head_dist(norm(other))
        x = self.fc_norm(self.pool(x))
        if self.pre_logits is not None and self.act is not None:
            x = self.pre_logits(x)
            x = self.act(x if self.norm_head is None else self.norm_head(x))
        return (self.head(x),)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> features (B, C), or (B, 2 C) of class token and mean."""
        a = self.architecture
        if a.global_pool == "token":
            return x[:, 0]
        patches = x if a.pool_registers or not a.prefix else x[:, a.prefix :]
        if self.attn_pool is not None:
            return self.attn_pool(patches)
        mean = patches.mean(1)
        return torch.cat([x[:, 0], mean], 1) if a.global_pool == "token_avg" else mean

    def _head(self, width: int) -> nn.Module:
        a = self.architecture
        if not a.num_classes:
            return nn.Identity()
        if a.global_pool != "token_avg":
            return nn.Linear(width, a.num_classes)
        self.shared["head.weight"] = Shared((a.num_classes, 2, width), "_ _ _")
        return nn.Linear(2 * width, a.num_classes)

    def init_weights(self) -> None:
        """Timm's initialization: truncated normal weights, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if "bias" in module.state_dict():
                    nn.init.zeros_(module.bias)
        latent = None if self.attn_pool is None else self.attn_pool.latent
        tables = (self.pos_embed, self.cls_token, self.dist_token, self.reg_token, latent)
        for table in tables:
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)


def passed(module: nn.Module, x: Tensor, layout: str) -> tuple[Tensor, str]:
    """What a block or downsampling gives, and its layout, from what is before it and its layout."""
    wanted = str(module.layout)
    if wanted != layout:
        x = to_tokens(x) if wanted == "tokens" else to_grid(x)
    return module(x), wanted


def _token(width: int, count: int = 1) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, count, width))


def _final_norm(a: Architecture, where: str, width: int) -> nn.Module:
    if a.final_norm != where:
        return nn.Identity()
    # Of one vector, the norm of all channels and tokens is that of its channels.
    kind = "layer" if (where, a.norm) == ("pooled", "group1") else a.norm
    return make_norm(kind, width, a.final_eps or a.norm_eps)


def _position_rule(width: int, a: Architecture) -> Shared:
    """Sharing of a table that starts with rows of class tokens, then of registers, if of any."""
    has_others = a.pos_embed == "learned"
    classes, registers = (a.class_tokens, a.registers) if has_others else (0, 0)
    fold = partial(_resize_positions, classes=classes, registers=registers, side=a.grid)
    unfold = partial(_enlarge_positions, registers=registers)
    branch = "" if has_others else a.pos_embed
    rows = classes + registers + a.grid**2
    return Shared((1, rows, width), "_ whole _", fold, unfold, branch)


def _resize_positions(table: Tensor, classes: int, registers: int, side: int) -> Tensor:
    """(1, K + registers + G * G, C) -> (1, classes + registers + side * side, C).

    Of more class tokens the first stay, those that are missing get rows of zeros.
    """
    known, old = _sides(table.shape[1], registers)
    if (known, old) == (classes, side):
        return table
    others, grid = table[:, : known + registers], table[:, known + registers :]
    if old != side:
        grid = grid.transpose(1, 2).unflatten(-1, (old, old))
        grid = to_tokens(F.interpolate(grid, (side, side), mode="bicubic", antialias=True))
    missing = table.new_zeros(1, max(classes - known, 0), table.shape[2])
    return torch.cat([others[:, : min(classes, known)], missing, others[:, known:], grid], 1)


def _enlarge_positions(table: Tensor, shape: torch.Size, registers: int) -> Tensor:
    classes, side = _sides(shape[1], registers)
    return _resize_positions(table, classes, registers, side)


def _sides(rows: int, registers: int) -> tuple[int, int]:
    """Class tokens of a table and side of its grid; squares are further apart than these numbers.

    >>> _sides(16, 0), _sides(17, 0), _sides(22, 4)
    ((0, 4), (1, 4), (2, 4))
    """
    known = {classes: rows - registers - classes for classes in CLASS_TOKENS.values()}
    return next((c, isqrt(n)) for c, n in known.items() if n > 0 and isqrt(n) ** 2 == n)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def to_grid(x: Tensor) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W) of a square grid."""
    side = round(int(x.shape[1]) ** 0.5)  # int: a traced shape is a tensor
    return x.transpose(1, 2).unflatten(-1, (side, side))
