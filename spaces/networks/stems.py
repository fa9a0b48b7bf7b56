"""Stems and downsampling: from image to grid, and from one grid to the next."""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import INVERTED, Stage
from .branches import convolution
from .levit import AttentionDownsample
from .mbconv import SqueezeExcite
from .norms import make_act, make_norm
from .sharing import Shared, center, uncenter
from .talking_heads import HalvingAttention


class PatchEmbed(nn.Module):
    """One convolution that turns each patch into a token."""

    def __init__(self, in_chans: int, width: int, patch_size: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, width, patch_size, stride=patch_size, bias=bias)
        kernel = (width, in_chans, patch_size, patch_size)
        resize = partial(_resize, side=patch_size)
        self.shared = {"proj.weight": Shared(kernel, "_ _ whole whole", resize, _enlarge)}

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, S, S) -> (B, C, S / patch_size, S / patch_size)."""
        return self.proj(x)


class OverlapEmbed(nn.Module):
    """One convolution that sees nearly two patches a side: 7x7 at patches of 4 (PoolFormer)."""

    def __init__(self, in_chans: int, width: int, patch_size: int, bias: bool = True) -> None:
        super().__init__()
        side = 2 * patch_size - 1
        self.proj = nn.Conv2d(
            in_chans, width, side, stride=patch_size, padding=patch_size // 2, bias=bias
        )
        resize = partial(_resize, side=side)
        shape = (width, in_chans, side, side)
        rule = Shared(shape, "_ _ whole whole", resize, _enlarge, branch="overlap")
        self.shared = {"proj.weight": rule}

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, S, S) -> (B, C, S / patch_size, S / patch_size)."""
        return self.proj(x)


ONE_CONVOLUTION = {"patch": PatchEmbed, "overlap": OverlapEmbed}


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2 with batch norm, then 1x1 (Xiao et al., arXiv:2106.14881).

    Without the last one they have activations only between them, as in TinyViT, or at the end, too,
    as in MobileNet. Those of 3x3 are trained in branches where `reparam` says so.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        patch_size: int,
        act: str,
        *,
        kind: str = "conv",
        reparam: bool = False,
    ) -> None:
        super().__init__()
        steps = patch_size.bit_length() - 1
        widths = [in_chans] + [max(8, width >> (steps - 1 - step)) for step in range(steps)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [
                convolution(inputs, outputs, 3, stride=2, reparam=reparam),
                nn.BatchNorm2d(outputs),
                make_act(act),
            ]
        self.layers = nn.Sequential(*(layers[:-1] if kind == "convs" else layers))
        self.proj = nn.Conv2d(widths[-1], width, 1) if kind == "conv" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, S, S) -> (B, C, S / patch_size, S / patch_size)."""
        return self.proj(self.layers(x))


class ConvDownsample(nn.Module):
    """A 3x3 convolution of stride 2 with batch norm."""

    layout = "grid"

    def __init__(self, inputs: int, outputs: int, stride: int = 2, reparam: bool = False) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, 3, stride, reparam=reparam)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        return self.bn(self.conv(x))


class ConvAttentionDownsample(ConvDownsample):
    """The same, and attention of new tokens to those of the old grid, as in EfficientFormerV2."""

    def __init__(
        self, inputs: int, outputs: int, grid: tuple[int, int], act: str, reparam: bool = False
    ) -> None:
        super().__init__(inputs, outputs, reparam=reparam)
        self.attend = HalvingAttention(inputs, outputs, grid, act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        return super().forward(x) + self.attend(x)


class Merging(nn.Module):
    """Four neighbors side by side."""

    layout = "tokens"

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def merged(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, H * W / 4, C * 4)."""
        height, width = self.grid
        x = x.view(-1, height // 2, 2, width // 2, 2, x.shape[-1])
        # Channels outermost, unlike Swin: those of a narrower network come first.
        return x.permute(0, 1, 3, 5, 4, 2).flatten(3).flatten(1, 2)


class PatchMerging(Merging):
    """Swin's downsampling: four neighbors side by side, norm, linear (arXiv:2103.14030)."""

    def __init__(
        self, inputs: int, outputs: int, grid: tuple[int, int], norm: str, eps: float
    ) -> None:
        super().__init__(grid)
        self.norm = make_norm(norm, 4 * inputs, eps)
        self.reduction = nn.Linear(4 * inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, H * W / 4, C')."""
        return self.reduction(self.norm(self.merged(x)))


class NormedMerging(Merging):
    """SwinV2's downsampling: four neighbors side by side, linear, norm (arXiv:2111.09883)."""

    def __init__(
        self, inputs: int, outputs: int, grid: tuple[int, int], norm: str, eps: float
    ) -> None:
        super().__init__(grid)
        # Names of their own: nothing is shared with other downsampling of a supernet.
        self.merge = nn.Linear(4 * inputs, outputs, bias=False)
        self.norm_out = make_norm(norm, outputs, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H * W, C) -> (B, H * W / 4, C')."""
        return self.norm_out(self.merge(self.merged(x)))


class PatchDownsample(nn.Module):
    """ConvNeXt's downsampling: a norm, then a convolution on patches of 2x2 (arXiv:2201.03545)."""

    layout = "grid"

    def __init__(self, inputs: int, outputs: int, norm: str, eps: float) -> None:
        super().__init__()
        # Names of their own: nothing is shared with other downsampling of a supernet.
        self.norm_in = make_norm(norm, inputs, eps, self.layout)
        self.proj = nn.Conv2d(inputs, outputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        return self.proj(self.norm_in(x))


class OverlapDownsample(nn.Module):
    """A 3x3 convolution of stride 2, with a bias and no norm, as in PoolFormer."""

    layout = "grid"

    def __init__(self, inputs: int, outputs: int, stride: int = 2, reparam: bool = False) -> None:
        super().__init__()
        self.overlap = convolution(inputs, outputs, 3, stride, bias=True, reparam=reparam)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        return self.overlap(x)


class MBConvDownsample(nn.Module):
    """1x1, depthwise of stride 2 and 1x1 convolutions, each with batch norm, as in TinyViT."""

    layout = "grid"

    def __init__(self, inputs: int, outputs: int, act: str, reparam: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            make_act(act),
            convolution(outputs, outputs, 3, stride=2, groups=outputs, reparam=reparam),
            nn.BatchNorm2d(outputs),
            make_act(act),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        return self.layers(x)


class InvertedDownsample(nn.Module):
    """MobileNet's inverted residual where it changes grid or width, and so has no residual.

    A 1x1 convolution to the hidden channels, if there are others than those that enter, a depthwise
    one, squeeze-and-excitation, and 1x1 to the outputs (MobileNetV2 and V3, arXiv:1801.04381 and
    arXiv:1905.02244).

    Attributes:
        name: of its layers.
        biased: whether all convolutions but the last have biases instead of batch norms.
    """

    layout, name, biased = "grid", "inverted", False

    def __init__(
        self,
        inputs: int,
        outputs: int,
        inner: tuple[int, int, int],
        stride: int,
        act: str,
        reparam: bool = False,
        se_gate: str = "hard_sigmoid",
    ) -> None:
        super().__init__()
        hidden, kernel, few = inner
        expands, hidden = hidden > 0, hidden or inputs
        first = nn.Conv2d(inputs, hidden, 1, bias=self.biased), self.norm(hidden), make_act(act)
        layers = nn.Sequential(
            *(first if expands else (nn.Identity(), nn.Identity(), nn.Identity())),
            convolution(hidden, hidden, kernel, stride, hidden, self.biased, reparam),
            self.norm(hidden),
            make_act(act),
            SqueezeExcite(hidden, few, "_", se_gate) if few else nn.Identity(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.add_module(self.name, layers)
        shape = (hidden, 1, kernel, kernel)
        rule = Shared(shape, "_ _ whole whole", center(kernel), uncenter)
        self.shared = {f"{self.name}.3.weight": rule}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return self.get_submodule(self.name)(x)

    def norm(self, channels: int) -> nn.Module:
        """What follows a convolution before its activation."""
        return nn.Identity() if self.biased else nn.BatchNorm2d(channels)


class BiasedDownsample(InvertedDownsample):
    """The same with fewer norms, as in EfficientViT (Cai et al., arXiv:2205.14756)."""

    # Names of their own: kernels before biases are of another size than those before norms.
    name, biased = "inverted_bias", True


class PointwiseDownsample(nn.Module):
    """A 1x1 convolution, batch norm and activation, as at the end of MobileNets."""

    layout = "grid"

    def __init__(self, inputs: int, outputs: int, stride: int, act: str) -> None:
        super().__init__()
        self.pointwise = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False),
            nn.BatchNorm2d(outputs),
            make_act(act),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return self.pointwise(x)


def make_downsample(
    stage: Stage,
    inputs: int,
    grid: tuple[int, int],
    norm: str,
    eps: float,
    act: str,
    reparam: bool = False,
    se_gate: str = "hard_sigmoid",
) -> nn.Module:
    """Make the layers that lead from one grid to the next.

    Args:
        stage: to which they lead.
        inputs: channels in.
        grid: rows and columns before it.
        norm: of the network.
        eps: of its norms.
        act: of the stage.
        reparam: whether convolutions larger than 1x1 are trained in branches.
        se_gate: of squeeze-and-excitation.
    """
    kind, outputs, stride = stage.downsample, stage.width, stage.stride
    if kind in INVERTED:
        inverted = InvertedDownsample if kind == "inverted" else BiasedDownsample
        return inverted(inputs, outputs, stage.inner, stride, act, reparam, se_gate)
    if kind == "pointwise":
        return PointwiseDownsample(inputs, outputs, stride, act)
    if kind == "mbconv":
        return MBConvDownsample(inputs, outputs, act, reparam)
    if kind == "attention":
        return AttentionDownsample(inputs, outputs, grid, stage.downsample_head_dim, act)
    if kind == "merge":
        return PatchMerging(inputs, outputs, grid, norm, eps)
    if kind == "merge_post":
        return NormedMerging(inputs, outputs, grid, norm, eps)
    if kind == "patch":
        return PatchDownsample(inputs, outputs, norm, eps)
    if kind == "overlap":
        return OverlapDownsample(inputs, outputs, stride, reparam)
    if kind == "conv_attention":
        return ConvAttentionDownsample(inputs, outputs, grid, act, reparam)
    return ConvDownsample(inputs, outputs, stride, reparam)


def _resize(kernel: Tensor, side: int) -> Tensor:
    if kernel.shape[-1] == side:
        return kernel
    matrix = pi_matrix(kernel.shape[-1], side).to(kernel)
    return matrix @ kernel @ matrix.T


def _enlarge(kernel: Tensor, shape: torch.Size) -> Tensor:
    """The larger kernel from which `_resize` makes the given one again."""
    if kernel.shape[-1] == shape[-1]:
        return kernel
    matrix = torch.linalg.pinv(pi_matrix(shape[-1], kernel.shape[-1])).to(kernel)
    return matrix @ kernel @ matrix.T


@lru_cache(maxsize=64)
def pi_matrix(old: int, new: int) -> Tensor:
    """Pseudo-inverse resize of a patch kernel (Beyer et al., FlexiViT, arXiv:2212.08013).

    A kernel resized by it gives on a resized patch what the old one gave on the old patch;
    exactly so where patches grow. Bilinear resizing is separable, and so is its
    pseudo-inverse: one matrix serves rows and columns.

    Returns:
        (new, old) matrix M in float32; the new kernel is M @ kernel @ M.T.
    """
    # It is kept, and an inference tensor could not be used in training later.
    with torch.device("cpu"), torch.inference_mode(False):
        # Rows that are constant along the columns: torch antialiases in two dimensions only.
        basis = torch.eye(old, dtype=torch.float64)[:, None, :, None].expand(-1, -1, -1, old)
        resized = F.interpolate(basis, (new, new), mode="bilinear", antialias=True)
        return torch.linalg.pinv(resized[:, 0, :, 0]).float()
