"""Functions that converters share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture
from ..errors import SpaceError
from ..networks import Network

BATCH_EPS = 1e-5  # of the batch norms of convolutions
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


def check_batch_norms(model: nn.Module) -> None:
    """Refuse norms of convolutions that differ from ours in what no weight tells.

    Raises:
        SpaceError: their epsilon is another one.
    """
    other = [m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.eps != BATCH_EPS]
    if other:
        raise SpaceError(f"batch norms must have an epsilon of {BATCH_EPS}, got {other[0]}")


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


def parted(joint: Tensor, heads: int, key_dim: int) -> list[Tensor]:
    """Queries, keys and values of a joint layer whose rows stand head by head.

    Args:
        joint: weight or bias (heads * (2 * key_dim + value_dim), ...).
        heads: how many.
        key_dim: channels of the queries and keys of a head; the others are of its values.
    """
    by_head = joint.unflatten(0, (heads, -1))
    sizes = (key_dim, key_dim, by_head.shape[1] - 2 * key_dim)
    return [part.flatten(0, 1) for part in by_head.split(sizes, 1)]


def wider(values: int, keys: int) -> int:
    """Channels of the values of a head, as a block says them: 0 for as many as of its keys."""
    return 0 if values == keys else values


def check_halving(stages: Sequence[Any]) -> None:
    """Refuse stages of which one but the first does not halve the grid by a convolution.

    Raises:
        SpaceError: there is one, or the first does.
    """
    if any(hasattr(stage.downsample, "conv") != (i > 0) for i, stage in enumerate(stages)):
        raise SpaceError("each stage but the first must halve the grid")


def normed(
    conv: Any, norm: Any, own_conv: str, own_norm: str, entering: Tensor | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names of a convolution and the batch norm after it, which takes in its bias.

    Args:
        conv: with a bias.
        norm: after it.
        own_conv: our name of the convolution, which has none.
        own_norm: of the norm.
        entering: what is to be added to all that enters a 1x1 convolution (inputs,), if anything.

    Raises:
        SpaceError: an epsilon that is not ours.
    """
    if norm.eps != BATCH_EPS:
        raise SpaceError(f"batch norms must have an epsilon of {BATCH_EPS}, got {norm.eps}")
    added = conv.bias if entering is None else conv.bias + conv.weight.flatten(1) @ entering
    yield f"{own_conv}.weight", conv.weight
    for name, value in norm.state_dict().items():
        yield f"{own_norm}.{name}", value - added if name == "running_mean" else value


def heads_of(model: Any) -> dict[str, Any]:
    """The classifier, and the one beside it that was distilled, if there is one, by our names."""
    names = ("head", "head_dist") if model.head_dist is not None else ("head",)
    return {name: getattr(model, name) for name in names}


def pool_of(model: Any) -> str:
    """How a model with these heads, of which each reads the mean of all tokens, pools."""
    return "avg_distill" if len(heads_of(model)) > 1 else "avg"


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
