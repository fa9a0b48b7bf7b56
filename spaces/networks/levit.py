"""LeViT's attention, in blocks and where it halves the grid (Graham et al., arXiv:2104.01136)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Block, Place
from ..mixers.common import values_of
from ..mixers.levit import halving
from .norms import BATCH_PARTS, BatchNorm, make_act
from .sharing import Shared

EPS = 1e-5  # of its batch norms, that of torch


class LevitAttention(nn.Module):
    """Attention over a grid, with values wider than keys.

    Positions are a learned bias for how far rows and columns are apart. Every layer has a batch
    norm, and the branch no other; what the heads gather is activated before the last one.

    Args:
        block: with the numbers of heads.
        inputs: channels of a token.
        outputs: channels of what it gives.
        grid: rows and columns of the tokens that are seen.
        act: name of the activation.
        stride: 2 where every second token of every second row sees, 1 where all do.
        axis: name of the axis of heads; "_" where they cannot be sorted.
    """

    offsets: Tensor

    def __init__(
        self,
        block: Block,
        inputs: int,
        outputs: int,
        grid: tuple[int, int],
        act: str,
        stride: int = 1,
        axis: str = "heads",
    ) -> None:
        super().__init__()
        heads, self.head_dim, self.value_dim = block.num_heads, block.head_dim, values_of(block)
        key, value = heads * self.head_dim, heads * self.value_dim
        self.num_heads = heads
        self.q, self.q_norm = nn.Linear(inputs, key, bias=False), BatchNorm(key, EPS)
        self.k, self.k_norm = nn.Linear(inputs, key, bias=False), BatchNorm(key, EPS)
        self.v, self.v_norm = nn.Linear(inputs, value, bias=False), BatchNorm(value, EPS)
        self.bias_table = nn.Parameter(torch.zeros(heads, *grid))
        self.register_buffer("offsets", _offsets(grid, stride), persistent=False)
        self.act = make_act(act)
        self.proj, self.norm = nn.Linear(value, outputs, bias=False), BatchNorm(outputs, EPS)
        self.shared = {
            "bias_table": Shared((heads, *grid), f"{axis} _ _"),
            "proj.weight": Shared((outputs, heads, self.value_dim), f"_ {axis} _"),
        }
        for name, dim in (("q", self.head_dim), ("k", self.head_dim), ("v", self.value_dim)):
            self.shared[f"{name}.weight"] = Shared((heads, dim, inputs), f"{axis} _ _")
            for part in BATCH_PARTS:
                self.shared[f"{name}_norm.{part}"] = Shared((heads, dim), f"{axis} _")

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C')."""
        return self.attend(x, x)

    def attend(self, x: Tensor, source: Tensor) -> Tensor:
        """Queries of x (B, N, C) see keys of source (B, M, C): (B, N, C')."""
        q = self.split(self.q_norm(self.q(x)), self.head_dim)  # (B, H, N, D)
        k = self.split(self.k_norm(self.k(source)), self.head_dim)
        v = self.split(self.v_norm(self.v(source)), self.value_dim)
        biases = self.bias_table.flatten(1)[:, self.offsets]  # (H, N, M)
        scores = q * self.head_dim**-0.5 @ k.transpose(-2, -1) + biases
        gathered = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.norm(self.proj(self.act(gathered)))

    def split(self, x: Tensor, dim: int) -> Tensor:
        """(B, N, heads * D) -> (B, heads, N, D)."""
        return x.unflatten(-1, (self.num_heads, dim)).transpose(1, 2)


def attention(place: Place) -> LevitAttention:
    """The attention of a block."""
    return LevitAttention(place.block, place.width, place.width, place.grid, place.act)


class AttentionDownsample(nn.Module):
    """Attention of every second token of every second row to all tokens, which is the stream then.

    Sides that are odd are halved and rounded up.
    """

    layout = "tokens"

    def __init__(
        self, inputs: int, outputs: int, grid: tuple[int, int], head_dim: int, act: str
    ) -> None:
        super().__init__()
        self.grid, self.width = grid, inputs
        # A name of its own: nothing is shared with other downsampling of a supernet.
        self.attention = LevitAttention(
            *(halving(inputs, head_dim), inputs, outputs, grid, act), stride=2, axis="_"
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, H / 2 * W / 2, C')."""
        return self.attention.attend(self.sparse(x), x)

    def sparse(self, x: Tensor) -> Tensor:
        """Every second token of every second row: (B, H * W, C) -> (B, H / 2 * W / 2, C).

        Two lie side by side and the first is cut out: few runtimes have slices with steps.
        """
        (rows, columns), width = self.grid, self.width
        x = x.unflatten(1, self.grid).flatten(2)  # (B, H, W * C)
        if rows % 2:
            x = F.pad(x, (0, 0, 0, 1))
        x = x.unflatten(1, (-1, 2)).flatten(2)[..., : columns * width]  # (B, H / 2, W * C)
        if columns % 2:
            x = F.pad(x, (0, width))
        x = x.unflatten(2, (-1, 2 * width)).flatten(1, 2)  # (B, H / 2 * W / 2, 2 * C)
        return x[..., :width]


def _offsets(grid: tuple[int, int], stride: int) -> Tensor:
    """Index of each pair of query and key into the biases, by how far they are apart."""
    with torch.device("cpu"):
        along = [(torch.arange(0, n, stride)[:, None] - torch.arange(n)).abs() for n in grid]
        rows, columns = along[0][:, None, :, None], along[1][None, :, None, :]
        return (rows * grid[1] + columns).flatten(2).flatten(0, 1)
