"""Equalize: a layer's outputs rescaled against the layer that alone reads them.

Cross-layer equalization (Nagel et al., arXiv:1906.04721): scaling a channel down in one layer and
up in the next changes nothing, where what lies between commutes with it. That holds from values
through attention to the projection, and through a ReLU; not through GELU. Weights have a scale for
each channel here, so the widths that are balanced are those of the activation between them and of
the columns that read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ...spaces.networks import Network
from ...spaces.networks.attention import Attention
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.window import WindowAttention
from .network import Calibration
from .repq import chain_of

FLOOR = 1e-4  # of the widest channel; narrower ones are scaled as if they were that wide


@torch.no_grad()
def equalized(
    network: Network, params: Mapping[str, Tensor], calibration: Calibration
) -> dict[str, Tensor]:
    """All parameters by name, pairs of layers equalized; the network's function is the same.

    Args:
        network: of the parameters.
        params: its parameters by name.
        calibration: of the same network. Its ranges do not hold for the result.
    """
    changed = dict(params)
    for writer, reader in pairs(network):
        first, last = chain_of(network, writer)[-1], chain_of(network, reader)[0]
        seen = calibration.before[last]
        width = torch.maximum(seen.lows.abs(), seen.highs.abs())
        columns = changed[f"{last}.weight"].abs().amax(0)
        ratio = (_floored(width) / _floored(columns)).sqrt()
        ratio = ratio / ratio.log().mean().exp()
        changed[f"{first}.weight"] = changed[f"{first}.weight"] / ratio[:, None]
        if f"{first}.bias" in changed:
            changed[f"{first}.bias"] = changed[f"{first}.bias"] / ratio
        changed[f"{last}.weight"] = changed[f"{last}.weight"] * ratio
    return changed


def pairs(network: Network) -> Iterator[tuple[str, str]]:
    """Layers by name, and those that alone read a multiple of their outputs, channel by channel."""
    for path, block in network.named_modules():
        if not isinstance(block, ResidualBlock):
            continue
        mixer = block.get_submodule(block.mixer_name)
        plain = type(mixer) in (Attention, WindowAttention)  # those made of it use values twice
        shared = plain and mixer.kv_heads != mixer.num_heads
        if plain and not shared and isinstance(mixer.get_submodule("norm"), nn.Identity):
            yield f"{path}.{block.mixer_name}.v", f"{path}.{block.mixer_name}.proj"
        mlp = block.mlp
        if mlp is None or not isinstance(mlp.act, nn.ReLU) or mlp.norm is not None:
            continue
        if block.layout == "tokens" and mlp.readers == ("fc1",):
            yield f"{path}.mlp.fc1", f"{path}.mlp.fc2"


def _floored(width: Tensor) -> Tensor:
    return width.clamp_min(FLOOR * width.amax().clamp_min(FLOOR))
