"""Block: one residual pair of mixer and MLP, and the place where it stands in its network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """The numbers of one block, as built: structured pruning is already in them.

    Attributes:
        mixer: what mixes tokens, a name of `mixers.MIXERS`.
        num_heads: attention heads.
        head_dim: channels of a head; heads times head_dim need not equal the width.
        kv_heads: heads of keys and values in grouped attention; divides num_heads.
        kv_pool: side of the average pool on keys and values in pooled attention.
        window_size: side of an attention window, in tokens.
        shift: whether windows are shifted by half a window, as in every second Swin block.
        kernel_size: side of the depthwise convolution inside linear attention and MBConv.
        token_hidden: hidden units of the token-MLP.
        mlp_hidden: hidden units of the MLP, or expanded channels of MBConv; 0 for no MLP.
        token_keep: share of the tokens that leaves the mixer; 1.0 keeps all.
    """

    mixer: str = "softmax"
    num_heads: int = 0
    head_dim: int = 0
    kv_heads: int = 0
    kv_pool: int = 0
    window_size: int = 0
    shift: bool = False
    kernel_size: int = 0
    token_hidden: int = 0
    mlp_hidden: int = 0
    token_keep: float = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """A block with everything around it that fixes its shapes.

    Attributes:
        block: the block itself.
        width: channels of the residual stream.
        grid: rows and columns of the stage's token grid.
        prefix: class and distillation tokens, which stand before the patch tokens.
        tokens: patch tokens that enter; rows x columns unless tokens were dropped before.
        kept: patch tokens that leave the mixer; equals tokens where none are dropped.
        relative: whether window attention adds a bias by relative position.
        act: activation of MLPs and convolutions.
    """

    block: Block
    width: int
    grid: tuple[int, int]
    prefix: int
    tokens: int
    kept: int
    relative: bool = False
    act: str = "gelu"

    @property
    def window(self) -> int:
        """Window side that is really used: a window never exceeds the grid."""
        return min(self.block.window_size, *self.grid)

    @property
    def shift(self) -> int:
        """Tokens by which windows are shifted; 0 where one window covers the grid."""
        return self.window // 2 if self.block.shift and self.window < max(self.grid) else 0
