"""Checkpoint: a training's tensors in one file, replaced now and then, never half written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...spaces.errors import RunError
from ..store.atomic_files import write_atomic

EVERY_S = 10.0  # seconds between two checkpoints ...
SHARE = 0.05  # ... or more, so that writing takes at most this share of the time


@dataclass(frozen=True, slots=True)
class State:
    """Content of a checkpoint.

    Attributes:
        step: finished steps.
        tensors: by name.
        notes: everything else, as JSON.
    """

    step: int
    tensors: Mapping[str, Tensor]
    notes: Mapping[str, Any]


class Checkpoint:
    """A checkpoint file.

    Args:
        path: of the file; it need not exist.
        about: what the training depends on: data, recipe, space and seed. A checkpoint of
            anything else is refused.
    """

    def __init__(self, path: Path, *about: str) -> None:
        self.path = path
        self._about = hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
        self._saved, self._pause = time.monotonic(), EVERY_S

    def load(self) -> State | None:
        """The state, if there is one.

        Raises:
            RunError: it is of another training, or no checkpoint.
        """
        if not self.path.is_file():
            return None
        with _opened(self.path) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("about") != self._about:
            raise RunError(
                f"{self.path}: is a checkpoint of another space, recipe, seed or data set: "
                "delete it to start again, or name another folder"
            )
        return State(int(metadata["step"]), tensors, json.loads(metadata["notes"]))

    def due(self) -> bool:
        """Whether enough time has passed since the last one."""
        return time.monotonic() - self._saved > self._pause

    def save(self, state: State) -> None:
        """Replace the file.

        Raises:
            RunError: the folder cannot be written, or the disk is full.
        """
        start = time.monotonic()
        notes = {
            "about": self._about,
            "step": str(state.step),
            "notes": json.dumps(dict(state.notes)),
        }
        write_atomic(
            self.path, save({name: t.contiguous() for name, t in state.tensors.items()}, notes)
        )
        self._saved = time.monotonic()
        self._pause = max(EVERY_S, (self._saved - start) / SHARE)

    def delete(self) -> None:
        """Remove the file: the training has ended."""
        self.path.unlink(missing_ok=True)


def read_notes(path: Path) -> Mapping[str, Any]:
    """Notes of a checkpoint of whatever, without its tensors; none of another file.

    Raises:
        RunError: it cannot be read.
    """
    with _opened(path) as file:
        return json.loads((file.metadata() or {}).get("notes", "{}"))


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
