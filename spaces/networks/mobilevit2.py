"""The block of MobileViTv2 (Mehta and Rastegari, arXiv:2206.02680)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..block import Place
from .branches import convolution
from .mlp import Mlp
from .norms import make_act
from .sharing import Shared, center, uncenter


class SeparableAttention(nn.Module):
    """One score a token, by which keys are summed to one context, which weighs the values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qk = nn.Conv2d(width, 1 + width, 1)  # the score first, so that widths can share
        self.v = nn.Conv2d(width, width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, P, N) -> the same; only the N with the same P see each other."""
        score, keys = self.qk(x).split([1, x.shape[1]], 1)
        context = (keys * score.softmax(-1)).sum(-1, keepdim=True)
        return self.proj(F.relu(self.v(x)) * context)


class SeparableTransformer(nn.Module):
    """Separable attention and an MLP, with norms of one group before them and residuals."""

    def __init__(self, width: int, hidden: int, act: str, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, width, eps)
        self.attn = SeparableAttention(width)
        self.norm2 = nn.GroupNorm(1, width, eps)
        self.mlp = Mlp(width, hidden, act, "grid")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, P, N) -> the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MobileVit2(nn.Module):
    """A depthwise convolution, transformers on squares of the grid, and a convolution back."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        block, width, kernel = place.block, place.width, place.block.kernel_size
        self.grid, self.size, inner = place.grid, block.unfold_size, block.inner_width
        self.conv_kxk = convolution(width, width, kernel, groups=width)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = make_act(place.act)
        self.conv_1x1 = nn.Conv2d(width, inner, 1, bias=False)
        self.layers = nn.Sequential(
            *(
                SeparableTransformer(inner, block.mlp_hidden, place.act, place.norm_eps)
                for _ in range(block.inner_layers)
            )
        )
        self.norm = nn.GroupNorm(1, inner, place.norm_eps)
        self.conv_proj = nn.Conv2d(inner, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        shape = (width, 1, kernel, kernel)
        rule = Shared(shape, "_ _ whole whole", center(kernel), uncenter)
        self.shared = {"conv_kxk.weight": rule}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.unfolded(self.conv_1x1(self.act(self.bn1(self.conv_kxk(x)))))
        return self.bn2(self.conv_proj(self.folded(self.norm(self.layers(x)))))

    def unfolded(self, x: Tensor) -> Tensor:
        """Grid (B, C, H, W) -> (B, C, places in a square, squares)."""
        (rows, columns), size = self.grid, self.size
        x = x.unflatten(3, (columns // size, size)).unflatten(2, (rows // size, size))
        return x.permute(0, 1, 3, 5, 2, 4).flatten(4, 5).flatten(2, 3)

    def folded(self, x: Tensor) -> Tensor:
        """Inverse of `unfolded`."""
        (rows, columns), size = self.grid, self.size
        x = x.unflatten(3, (rows // size, columns // size)).unflatten(2, (size, size))
        return x.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
