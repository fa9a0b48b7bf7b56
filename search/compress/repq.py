"""RepQ: layer norms rescaled so that one range fits all channels of what they write.

After a layer norm some channels are many times wider than others; one scale for all of them,
which is what integer kernels take, wastes most of its values. Scale and shift of the norm move
the channels onto a common range, and the linear layers that read them undo it: exact in float
(Li et al., RepQ-ViT, arXiv:2212.08254).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ...spaces.networks import Network
from ...spaces.networks.attention import Attention
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.linear import LinearAttention
from ...spaces.networks.norms import RmsNorm
from ...spaces.networks.window import WindowAttention
from .network import Calibration

FLOOR = 1e-6  # of the widest channel: one that never varies is left as wide as that


@torch.no_grad()
def reparametrise(
    network: Network, params: Mapping[str, Tensor], calibration: Calibration
) -> dict[str, Tensor]:
    """All parameters by name, norms and their readers rescaled; the network's function is the same.

    Args:
        network: of the parameters; it may be on the meta device.
        params: its parameters by name.
        calibration: of the same network. Its ranges do not hold for the result.
    """
    found = dict(params)
    for norm, readers in norms_and_readers(network):
        seen = calibration.before[readers[0]]
        width = (seen.highs - seen.lows).clamp_min(FLOOR * (seen.highs - seen.lows).amax())
        ratio = width / width.mean()  # so wide is each channel beside the common range
        shifted = f"{norm}.bias" in params
        middle = (seen.lows + seen.highs) / 2
        shift = ratio * middle.mean() - middle if shifted else torch.zeros_like(middle)
        found[f"{norm}.weight"] = params[f"{norm}.weight"] / ratio
        if shifted:
            found[f"{norm}.bias"] = (params[f"{norm}.bias"] + shift) / ratio
        for reader in readers:
            weight = params[f"{reader}.weight"]
            found[f"{reader}.weight"] = weight * ratio
            found[f"{reader}.bias"] = params[f"{reader}.bias"] - weight @ shift
    return found


def norms_and_readers(network: Network) -> Iterator[tuple[str, list[str]]]:
    """Norms of tokens, with the linear layers that are all that reads them, by name."""
    for path, block in network.named_modules():
        if not isinstance(block, ResidualBlock):
            continue
        mixer = block.get_submodule(block.mixer_name)
        # Padded windows hold zeros after the norm, which a shift would not move.
        padded = isinstance(mixer, WindowAttention) and mixer.padded != tuple(mixer.grid)
        attends = isinstance(mixer, Attention | LinearAttention) and not padded
        if attends and _rescalable(block.norm1):
            yield f"{path}.norm1", [f"{path}.{block.mixer_name}.{name}" for name in "qkv"]
        if block.layout == "tokens" and block.mlp is not None and _rescalable(block.norm2):
            yield f"{path}.norm2", [f"{path}.mlp.fc1"]


def _rescalable(norm: nn.Module | None) -> bool:
    return isinstance(norm, nn.LayerNorm | RmsNorm)
