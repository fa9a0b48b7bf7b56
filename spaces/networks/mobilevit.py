"""The block of MobileViT (Mehta and Rastegari, arXiv:2110.02178)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..block import Place
from ..mixers.mobilevit import inner_place
from .attention import Attention
from .branches import convolution
from .mlp import Mlp
from .norms import make_act, make_norm
from .sharing import Shared, center, uncenter


class Transformer(nn.Module):
    """Attention and MLP on tokens, with norms before them and residuals.

    Args:
        place: of the attention.
        hidden: units of the MLP.
    """

    def __init__(self, place: Place, hidden: int) -> None:
        super().__init__()
        width, heads, dim = place.width, place.block.num_heads, place.block.head_dim
        self.norm1 = make_norm("layer", width, place.norm_eps)
        self.attn = Attention(place)
        self.norm2 = make_norm("layer", width, place.norm_eps)
        self.mlp = Mlp(width, hidden, place.act, "tokens")
        # No choice of pruning makes its heads fewer, so that they are not sorted.
        self.shared = {
            **{f"attn.{name}.weight": Shared((heads, dim, width), "_ _ _") for name in "qkv"},
            **{f"attn.{name}.bias": Shared((heads, dim), "_ _") for name in "qkv"},
            "attn.proj.weight": Shared((width, heads, dim), "_ _ _"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MobileVit(nn.Module):
    """A convolution, transformers among tokens with the same place in their square, and a fusion.

    Convolutions with batch norm lead in and out; what comes out is put beside what has come in,
    and both are fused by a convolution, in place of a residual.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        block, width, kernel = place.block, place.width, place.block.kernel_size
        self.grid, self.size = place.grid, block.unfold_size
        inner, hidden = inner_place(place), block.mlp_hidden
        self.conv_kxk = convolution(width, width, kernel)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv_1x1 = nn.Conv2d(width, inner.width, 1, bias=False)
        self.layers = nn.ModuleList(Transformer(inner, hidden) for _ in range(block.inner_layers))
        self.norm = make_norm("layer", inner.width, place.norm_eps)
        self.conv_proj = nn.Conv2d(inner.width, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv_fusion = convolution(2 * width, width, kernel)
        self.bn3 = nn.BatchNorm2d(width)
        self.act = make_act(place.act)
        self.shared = {
            "conv_kxk.weight": Shared(
                (width, width, kernel, kernel), "_ _ whole whole", center(kernel), uncenter
            ),
            "conv_fusion.weight": Shared(
                (width, 2, width, kernel, kernel),
                "_ _ _ whole whole",
                partial(_joined, side=kernel),
                _parted,
            ),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        entered = x
        x = self.conv_1x1(self.act(self.bn1(self.conv_kxk(x))))
        x = self.unfolded(x)
        for layer in self.layers:
            x = layer(x)
        x = self.act(self.bn2(self.conv_proj(self.folded(self.norm(x)))))
        return self.act(self.bn3(self.conv_fusion(torch.cat([entered, x], 1))))

    def unfolded(self, x: Tensor) -> Tensor:
        """Grid (B, C, H, W) -> tokens of the same place (B * size * size, squares, C)."""
        (rows, columns), size = self.grid, self.size
        x = x.unflatten(3, (columns // size, size)).unflatten(2, (rows // size, size))
        return x.permute(0, 3, 5, 2, 4, 1).flatten(3, 4).flatten(0, 2)

    def folded(self, x: Tensor) -> Tensor:
        """Inverse of `unfolded`."""
        (rows, columns), size = self.grid, self.size
        x = x.unflatten(1, (rows // size, columns // size)).unflatten(0, (-1, size, size))
        return x.permute(0, 5, 3, 1, 4, 2).flatten(4, 5).flatten(2, 3)


def _joined(source: Tensor, side: int) -> Tensor:
    """(C, 2, C, K, K) -> (C, 2 * C, side, side): of both halves the first channels."""
    return center(side)(source).flatten(1, 2)


def _parted(parameter: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of `_joined`."""
    return uncenter(parameter.unflatten(1, (2, -1)), shape)
