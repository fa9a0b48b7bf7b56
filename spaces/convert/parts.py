"""Functions that converters share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture
from ..errors import SpaceError
from ..networks import Network


def network_of(architecture: Architecture, state: Mapping[str, Tensor]) -> Network:
    """Build the network with a copy of these weights.

    Args:
        architecture: of the network.
        state: name of each of its parameters -> value; what else is in it must not be there.

    Raises:
        SpaceError: a parameter that only one of both has, or in another shape.
    """
    network = Network(architecture)
    own = {name: parameter.shape for name, parameter in network.named_parameters()}
    left = own.items() ^ {name: tensor.shape for name, tensor in state.items()}.items()
    if left:
        raise SpaceError(f"the model has parts that have no counterpart: {min(left)[0]}")
    network.load_state_dict(state, strict=False)
    return network


def common_fields(model: Any, embed: Any, act: nn.Module) -> dict[str, Any]:
    """Fields that all families have; `embed` is the patch embedding."""
    acts = {nn.GELU: "gelu", nn.ReLU: "relu", nn.SiLU: "silu", nn.Hardswish: "hardswish"}
    name = next((name for kind, name in acts.items() if isinstance(act, kind)), None)
    if name is None or embed.img_size[0] != embed.img_size[1]:
        raise SpaceError(f"no counterpart for {act} on images of {embed.img_size}")
    norm = next((module for module in model.modules() if isinstance(module, nn.LayerNorm)), None)
    if norm is None:
        raise SpaceError("the model has no LayerNorm, the only norm that is converted")
    return {
        "input_size": embed.img_size[0],
        "in_chans": embed.proj.in_channels,
        "num_classes": model.num_classes,
        "patch_size": embed.patch_size[0],
        "norm_eps": norm.eps,
        "act": name,
    }


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Our names, with timm's joint query-key-value layer split in three."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        if ".qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                tensors[name.replace(".qkv.", f".{part}.")] = piece
        else:
            tensors[name] = tensor
    return tensors
