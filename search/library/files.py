"""Files: a library as safetensors, from its first part to its last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor

from ..training.checkpoint import Checkpoint, State
from .parts import Depths, Library, Option
from .start import Start, Wide

SEPARATOR = " / "  # between the name of an option and that of a parameter


def checkpoint_of(path: Path, start: Start) -> Checkpoint:
    """The file of a start's library; that of another start or of other images is refused."""
    sums = [f"{n} {v.double().sum()} {v.double().square().sum()}" for n, v in start.weights.items()]
    seen = start.images.double()
    return Checkpoint(
        path, repr(start.architecture), *sums, f"{tuple(seen.shape)} {seen.sum()} {seen.std()}"
    )


def save(checkpoint: Checkpoint, library: Library) -> None:
    """Replace the file by what there is so far.

    Raises:
        RunError: it cannot be written.
    """
    tensors = {f"units{SEPARATOR}{name}": order for name, order in library.units.items()}
    axes: dict[str, str] = {}
    for name, option in library.options.items():
        for part, wide in option.items():
            key = f"{name}{SEPARATOR}{part}"
            tensors[key], axes[key] = wide.value, " ".join(wide.axes)
    notes = {"axes": axes, "dropped": library.dropped} | {
        name: dict(getattr(library, name)) for name in ("missed", "explained")
    }
    checkpoint.save(State(len(library.options), tensors, notes))


def load(checkpoint: Checkpoint, start: Start) -> Library:
    """What the file holds; a library of nothing but the start where there is none.

    Raises:
        RunError: it is of another start, or cannot be read.
    """
    state = checkpoint.load()
    if state is None:
        return Library(start)
    units: dict[str, Tensor] = {}
    options: dict[str, dict[str, Wide]] = {}
    axes = cast("Mapping[str, str]", state.notes["axes"])
    for key, value in state.tensors.items():
        name, _, part = key.partition(SEPARATOR)
        if key in axes:
            options.setdefault(name, {})[part] = Wide(value, tuple(axes[key].split()))
        else:
            units[part] = value
    dropped: Depths = tuple(tuple(blocks) for blocks in state.notes["dropped"])
    found: Mapping[str, Option] = options
    return Library(start, units, dropped, state.notes["missed"], found, state.notes["explained"])
