"""Weights of others in files: read without running any code, and compared with a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor, nn

from ...spaces.errors import RunError

NAMED = 3  # tensors in a message
# What training code calls the model inside of its own module: Lightning's habit, and that of many.
WRAPPERS = ("model.", "net.", "network.", "backbone.")
COUNTER = "n_averaged"  # of torch's AveragedModel, beside the weights
OBJECTS = (
    "or holds Python objects, which could run any code and are not read: save the model's "
    "state_dict() instead"
)
INSIDE = (
    LookupError,
    AttributeError,
    TypeError,
    EOFError,
)  # of a reader, which tell nobody anything


def read_weights(file: Path, key: str = "teacher.checkpoint") -> dict[str, Tensor]:
    """The tensors of a checkpoint as torch, timm or safetensors write it.

    Averaged weights are preferred, prefixes of wrappers such as DataParallel or of a Lightning
    module are left out.

    Args:
        file: the checkpoint.
        key: where it was named, for messages.

    Raises:
        RunError: no such file, one that is damaged, or one that holds more than tensors.
    """
    from timm.models import load_state_dict  # takes seconds to load

    where = f"{key}: {file}"
    if not file.is_file():
        raise RunError(f"{where}: no such file")
    try:
        held: Any = load_state_dict(str(file), weights_only=True)
    except Exception as error:  # every format has errors of its own
        inside = "its content makes no sense" if isinstance(error, INSIDE) else one_line(error)
        about = OBJECTS if holds_objects(error) else f"or no checkpoint: {inside}"
        raise RunError(f"{where}: it is damaged, {about}") from error
    if not held or not all(isinstance(value, Tensor) for value in held.values()):
        keys = ", ".join(map(str, list(held)[:NAMED])) or "nothing"
        raise RunError(f"{where}: need tensors by name, such as a model's state_dict(), got {keys}")
    return _unwrapped(held)


def _unwrapped(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without what is in front of all their names."""
    weights = {name: value for name, value in held.items() if name != COUNTER}
    for prefix in WRAPPERS:
        if weights and all(name.startswith(prefix) for name in weights):
            return _unwrapped({n.removeprefix(prefix): v for n, v in weights.items()})
    return weights


def check_fits(
    network: nn.Module, weights: Mapping[str, Tensor], where: str, heads: Sequence[str]
) -> None:
    """Check that weights are those of a network.

    Args:
        network: what they are for.
        weights: by name.
        where: file and model, for the message.
        heads: layers whose weights have a row for each class.

    Raises:
        RunError: naming what does not fit.
    """
    wanted = network.state_dict()
    misfits = [
        f"{name} is missing"
        if name not in weights
        else f"{name} is {shape_of(weights[name])} instead of {shape_of(value)}"
        for name, value in wanted.items()
        if name not in weights or weights[name].shape != value.shape
    ]
    misfits += [f"{name} is unknown" for name in weights if name not in wanted]
    if not misfits:
        return
    only_heads = all(text.startswith(tuple(f"{head}." for head in heads)) for text in misfits)
    if only_heads and (rows := weights.get(f"{heads[0]}.weight")) is not None:
        raise RunError(
            f"{where} with {len(rows)} classes, the data has {len(wanted[f'{heads[0]}.weight'])}: "
            "name a checkpoint that was trained on the same classes"
        )
    more = f", and {len(misfits) - NAMED} more" if len(misfits) > NAMED else ""
    raise RunError(
        f"{where} has other tensors, {len(misfits)} of {len(wanted.keys() | weights.keys())} do "
        f"not fit: {', '.join(misfits[:NAMED])}{more}"
    )


def holds_objects(error: Exception) -> bool:
    """Whether torch refused a file because it may hold more than tensors."""
    return "weights_only" in str(error) or "Weights only" in str(error)


def one_line(error: Exception) -> str:
    """Message of an error of others."""
    shown = "".join(c if c.isprintable() or c.isspace() else repr(c)[1:-1] for c in str(error))
    text = shorten(shown, 300, placeholder=" ...")
    return text if " " in text else f"{type(error).__name__} {text}".strip()


def shape_of(tensor: Tensor) -> str:
    """Sizes of a tensor, for messages."""
    return "x".join(map(str, tensor.shape)) or "a number"
