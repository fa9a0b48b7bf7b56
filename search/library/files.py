"""Files: a library as safetensors, from its first part to its last."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ...spaces.errors import RunError
from ..training.checkpoint import Checkpoint, State, read_notes
from .parts import Depths, Library, Option
from .start import Start, Wide

SEPARATOR = " / "  # between the name of an option and that of a parameter


class Known(NamedTuple):
    """What a library knows of its parts, by the names of its attributes."""

    dropped: Depths
    missed: Mapping[str, float]
    lost: Mapping[str, float]
    explained: Mapping[str, float]
    cuts: Mapping[str, Mapping[int, float]]
    sees: Mapping[int, bool]


def checkpoint_of(path: Path, start: Start) -> Checkpoint:
    """The file of a start's library; that of another start or of other images is refused."""
    digest = hashlib.sha256()  # a sum would depend on the number of threads
    for name, value in (*sorted(start.weights.items()), ("images", start.images)):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return Checkpoint(path, repr(start.architecture), digest.hexdigest())


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
    known = Known(*(getattr(library, name) for name in Known._fields))
    checkpoint.save(State(len(library.options), tensors, {"axes": axes} | known._asdict()))


def load(checkpoint: Checkpoint, start: Start) -> Library:
    """What the file holds; a library of nothing but the start where there is none.

    Raises:
        RunError: it is of another start or release, or cannot be read.
    """
    state = checkpoint.load()
    if state is None:
        return Library(start)
    units: dict[str, Tensor] = {}
    options: dict[str, dict[str, Wide]] = {}
    known, axes = _known(state.notes, checkpoint.path), state.notes["axes"]
    for key, value in state.tensors.items():
        name, _, part = key.partition(SEPARATOR)
        if key in axes:
            options.setdefault(name, {})[part] = Wide(value, tuple(axes[key].split()))
        else:
            units[part] = value
    found: Mapping[str, Option] = options
    return Library(start, units=units, options=found, **known._asdict())


def read_known(path: Path) -> Known:
    """What is known of the parts of a library, without reading them.

    Raises:
        RunError: the file is no library, or of another release.
    """
    return _known(read_notes(path), path)


def _known(notes: Mapping[str, Any], path: Path) -> Known:
    try:
        return Known(
            tuple(tuple(map(int, blocks)) for blocks in notes["dropped"]),
            **{name: dict(notes[name]) for name in ("missed", "lost", "explained")},
            cuts={
                name: {int(count): share for count, share in shares.items()}
                for name, shares in notes["cuts"].items()
            },
            sees={int(size): bool(sees) for size, sees in notes.get("sees", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path}: is no library, or one of another release: delete it, and it is made again"
        ) from error
