"""EfficientFormerV2's attention, in blocks and between grids (Li et al., arXiv:2212.08059).

Heads are mixed before and after the softmax (Shazeer et al., arXiv:2003.02436).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ..block import Block, Place
from ..mixers.common import values_of
from ..mixers.talking_heads import HALVING, LOCAL
from .branches import convolution
from .norms import BATCH_PARTS, make_act
from .sharing import Shared


class TalkingHeads(nn.Module):
    """Attention among the tokens of a grid, or of one of half its side, with its heads mixed.

    To what the heads gather a depthwise convolution of the values is added. Every layer has a batch
    norm but those that mix heads; positions are biases by how far rows and columns are apart.
    """

    offsets: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__()
        block, width, self.stride = place.block, place.width, place.block.attn_stride
        heads, value = block.num_heads, block.num_heads * values_of(block)
        rows, columns = (side // self.stride for side in place.grid)
        self.num_heads, self.head_dim, self.grid = heads, block.head_dim, (rows, columns)
        coarser = convolution(width, width, LOCAL, self.stride, groups=width)
        self.coarser = _normed(coarser) if self.stride > 1 else nn.Identity()
        self.q, self.k, self.v, self.local = _layers(block, width)
        self.bias_table = nn.Parameter(torch.zeros(heads, rows, columns))
        self.register_buffer("offsets", _offsets(self.grid), persistent=False)
        self.mix_scores, self.mix_weights = (nn.Conv2d(heads, heads, 1) for _ in range(2))
        self.act = make_act(place.act)
        self.proj, self.bn = nn.Conv2d(value, width, 1, bias=False), nn.BatchNorm2d(width)
        self.shared = _rules(block, width) | {
            "bias_table": Shared((heads, rows, columns), "heads _ _"),
            "proj.weight": Shared((width, heads, values_of(block)), "_ heads _"),
        }
        for name in ("mix_scores", "mix_weights"):
            self.shared[f"{name}.weight"] = Shared((heads, heads), "heads heads")
            self.shared[f"{name}.bias"] = Shared((heads,), "heads")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.coarser(x)
        v = self.v(x)
        scores = _scores(self.q(x), self.k(x), self.num_heads, self.head_dim)
        scores = scores + self.bias_table.flatten(1)[:, self.offsets]  # (B, H, N, N)
        weights = self.mix_weights(self.mix_scores(scores).softmax(-1))
        x = _gathered(weights, v, self.grid) + self.local(v)
        if self.stride > 1:
            x = doubled(x, self.grid)
        return self.bn(self.proj(self.act(x)))


class HalvingAttention(nn.Module):
    """Tokens of a grid of half the side see all those of a grid.

    A query is a depthwise convolution around its place in the grid.

    Args:
        inputs: channels in.
        outputs: channels out.
        grid: rows and columns of the tokens that are seen.
        act: name of the activation.
    """

    offsets: Tensor

    def __init__(self, inputs: int, outputs: int, grid: tuple[int, int], act: str) -> None:
        super().__init__()
        self.num_heads, self.head_dim = HALVING.num_heads, HALVING.head_dim
        self.grid = grid[0] // 2, grid[1] // 2
        around = convolution(inputs, inputs, LOCAL, 2, groups=inputs)
        q, self.k, self.v, self.local = _layers(HALVING, inputs, 2)
        self.q = nn.Sequential(OrderedDict(local=around, conv=q[0], bn=q[1]))
        self.bias_table = nn.Parameter(torch.zeros(self.num_heads, *grid))
        self.register_buffer("offsets", _offsets(grid, 2), persistent=False)
        self.act = make_act(act)
        value = self.num_heads * values_of(HALVING)
        self.proj = _normed(nn.Conv2d(value, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        v = self.v(x)
        scores = _scores(self.q(x), self.k(x), self.num_heads, self.head_dim)
        scores = scores + self.bias_table.flatten(1)[:, self.offsets]  # (B, H, N, M)
        return self.proj(self.act(_gathered(scores.softmax(-1), v, self.grid) + self.local(v)))


def doubled(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bilinear interpolation to twice the side, in operators that every runtime has.

    Args:
        x: (B, C, *grid).
        grid: rows and columns.

    Returns:
        (B, C, 2 * rows, 2 * columns).
    """
    for axis, length in zip((2, 3), grid, strict=True):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, length - 1, 1)
        before = after = x
        if length > 1:
            before = torch.cat([first, x.narrow(axis, 0, length - 1)], axis)
            after = torch.cat([x.narrow(axis, 1, length - 1), last], axis)
        most = x * 0.75
        pairs = torch.stack([most + before * 0.25, most + after * 0.25], axis + 1)
        x = pairs.flatten(axis, axis + 1)
    return x


def _layers(block: Block, width: int, stride: int = 1) -> list[nn.Sequential]:
    """Queries, keys, values and the convolution of these, each with its batch norm."""
    key, value = block.num_heads * block.head_dim, block.num_heads * values_of(block)
    dense = [nn.Conv2d(width, channels, 1, bias=False) for channels in (key, key, value)]
    return [_normed(conv) for conv in (*dense, convolution(value, value, LOCAL, stride, value))]


def _rules(block: Block, width: int) -> dict[str, Shared]:
    """Sharing of `_layers` head by head."""
    heads, key, value = block.num_heads, block.head_dim, values_of(block)
    shared = {"local.conv.weight": Shared((heads, value, LOCAL, LOCAL), "heads _ _ _")}
    for name, dim in (("q", key), ("k", key), ("v", value), ("local", value)):
        if name != "local":
            shared[f"{name}.conv.weight"] = Shared((heads, dim, width), "heads _ _")
        for part in BATCH_PARTS:
            start = float(part in ("weight", "running_var"))
            shared[f"{name}.bn.{part}"] = Shared((heads, dim), "heads _", start=start)
    return shared


def _normed(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels)))


def _scores(q: Tensor, k: Tensor, heads: int, head_dim: int) -> Tensor:
    """Queries and keys (B, heads * D, rows, columns) of two grids -> (B, heads, N, M)."""
    q, k = (t.flatten(2).unflatten(1, (heads, head_dim)) for t in (q * head_dim**-0.5, k))
    return q.transpose(-2, -1) @ k


def _gathered(weights: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """Weights (B, heads, N, M) of values (B, heads * D, H, W) -> (B, heads * D, *grid)."""
    heads = v.flatten(2).unflatten(1, (weights.shape[1], -1))  # (B, heads, D, M)
    return (heads @ weights.transpose(-2, -1)).flatten(1, 2).unflatten(-1, grid)


def _offsets(grid: tuple[int, int], stride: int = 1) -> Tensor:
    """Index of each pair of query and key into the biases, by how far they are apart."""
    with torch.device("cpu"):
        along = [(torch.arange(0, n, stride)[:, None] - torch.arange(n)).abs() for n in grid]
        rows, columns = along[0][:, None, :, None], along[1][None, :, None, :]
        return (rows * grid[1] + columns).flatten(2).flatten(0, 1)
