"""Architecture: everything that fixes a network's shapes, as data under timm's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import mixers
from .block import Block

STEMS = ("patch", "conv")
POS_EMBEDS = ("learned", "relative", "none")
GLOBAL_POOLS = ("token", "distill", "avg")
NORMS = ("layer", "rms", "batch", "group")
ACTS = ("gelu", "relu", "silu", "hardswish")
DOWNSAMPLES = ("conv", "merge")
TOKEN_REDUCTIONS = ("evit", "random")


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width on one token grid.

    Attributes:
        width: channels of the residual stream.
        blocks: the blocks in order.
        downsample: how the grid was halved before the stage, "conv" or "merge"; the first
            stage has the stem.
    """

    width: int
    blocks: tuple[Block, ...]
    downsample: str = "conv"


@dataclass(frozen=True)
class Architecture:
    """A network's shapes; canonical, so that equal networks have equal architectures.

    Attributes:
        stages: one stage for a plain vision transformer, several for a hierarchy.
        input_size: side of the square input image in pixels.
        in_chans: image channels.
        num_classes: outputs of the head.
        stem: "patch" (one convolution) or "conv" (3x3 convolutions of stride 2).
        patch_size: pixels a token is wide and high after the stem.
        stem_norm: a norm after the stem, as in Swin.
        pos_embed: "learned" table, "relative" bias inside windows, or "none".
        global_pool: class "token", class and "distill" tokens with a head each, or "avg".
        norm: "layer", "rms", "batch" or "group".
        norm_eps: epsilon of every norm.
        act: activation of MLPs and convolutions.
        layer_scale: a learned scale on every residual branch.
        token_reduction: which tokens are dropped: the least attended ("evit", the dropped
            ones fused into one token) or a fixed "random" subset, the control.
    """

    stages: tuple[Stage, ...]
    input_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000
    stem: str = "patch"
    patch_size: int = 16
    stem_norm: bool = False
    pos_embed: str = "learned"
    global_pool: str = "token"
    norm: str = "layer"
    norm_eps: float = 1e-6
    act: str = "gelu"
    layer_scale: bool = False
    token_reduction: str = "evit"

    def __post_init__(self) -> None:
        stages = tuple(
            Stage(
                stage.width,
                tuple(mixers.canonical(block) for block in stage.blocks),
                stage.downsample if index else "conv",
            )
            for index, stage in enumerate(self.stages)
        )
        object.__setattr__(self, "stages", stages)
        if all(block.token_keep == 1 for block in self.blocks()):
            object.__setattr__(self, "token_reduction", "evit")

    @property
    def grid(self) -> int:
        """Side of the token grid after the stem."""
        return self.input_size // self.patch_size

    @property
    def prefix(self) -> int:
        """Number of class and distillation tokens."""
        return {"avg": 0, "token": 1, "distill": 2}[self.global_pool]

    def blocks(self) -> Iterator[Block]:
        """All blocks of all stages in order."""
        for stage in self.stages:
            yield from stage.blocks
