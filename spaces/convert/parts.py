"""Functions that converters share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture
from ..errors import SpaceError
from ..networks import Network

# Classes of activations in timm, transformers and torch -> ours.
ACTS = {
    "GELU": "gelu",
    "GELUActivation": "gelu",
    "GELUTanh": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
    "PytorchGELUTanh": "gelu_tanh",
    "QuickGELU": "quick_gelu",
    "QuickGELUActivation": "quick_gelu",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SiLU": "silu",
    "SiLUActivation": "silu",
    "Swish": "silu",
    "Hardswish": "hardswish",
    "HardSwish": "hardswish",
}


def network_of(architecture: Architecture, state: Mapping[str, Tensor]) -> Network:
    """Build the network with a copy of these weights.

    Args:
        architecture: of the network.
        state: name of each of its parameters -> value; what else is in it must not be there.

    Raises:
        SpaceError: a parameter that only one of both has, or in another shape.
    """
    network = Network(architecture)
    own = {name: value.shape for name, value in network.state_dict().items()}  # statistics, too
    left = own.items() ^ {name: tensor.shape for name, tensor in state.items()}.items()
    if left:
        raise SpaceError(f"the model has parts that have no counterpart: {min(left)[0]}")
    network.load_state_dict(state)
    return network


def act_of(act: nn.Module) -> str:
    """Our name of an activation.

    Raises:
        SpaceError: we have none.
    """
    name = ACTS.get(type(act).__name__)
    if name is None:
        raise SpaceError(f"no counterpart for the activation {act}")
    return "gelu_tanh" if getattr(act, "approximate", "none") == "tanh" else name


def norm_of(norm: Any) -> dict[str, Any]:
    """Kind and epsilon of the norm of all tokens.

    Raises:
        SpaceError: it is neither a layer norm, nor an RMS norm, nor one of a single group, nor
            scale and shift alone.
    """
    kind = kind_of_norm(norm)
    if not kind:
        raise SpaceError(f"no counterpart for the norm {norm}: only LayerNorm and RmsNorm have one")
    return {"norm": kind, "norm_eps": getattr(norm, "eps", 1e-6)}


def kind_of_norm(norm: nn.Module) -> str:
    """Our name of a norm; none for anything else."""
    names = {kind.__name__.lower() for kind in type(norm).__mro__}
    if "layernorm" in names:
        return "layer"
    if isinstance(norm, nn.GroupNorm):
        return "group1" if norm.num_groups == 1 else ""
    return "rms" if names & {"rmsnorm"} else "affine" if "affine" in names else ""


def side_of(size: Any, what: str) -> int:
    """Side of a square.

    Raises:
        SpaceError: it is none.
    """
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if sides[0] != sides[1]:
        raise SpaceError(f"{what} must be square, got {sides[0]}x{sides[1]}")
    return int(sides[0])


def embed_fields(model: Any, embed: Any) -> dict[str, Any]:
    """Fields of timm's patch embedding."""
    return {
        "input_size": side_of(embed.img_size, "images"),
        "in_chans": embed.proj.in_channels,
        "num_classes": model.num_classes,
        "patch_size": side_of(embed.patch_size, "patches"),
    }


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Our names, with joint layers of queries, keys and values split."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        joint = next((j for j in ("qkv", "kv") if f".{j}." in f".{name}"), "")
        if joint:
            for part, piece in zip(joint, tensor.chunk(len(joint)), strict=True):
                tensors[name.replace(f"{joint}.", f"{part}.")] = piece
        else:
            tensors[name] = tensor
    return tensors
