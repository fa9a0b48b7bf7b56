"""Converting: what runtimes share that read files of their own, made from ONNX graphs here."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

from ...spaces.errors import CostError, first_line
from . import Runtime, Source, as_bytes
from .scratch import scratch


class Converting(Runtime):
    """A runtime that converts ONNX graphs by its own `convert`."""

    def content(self, model: Source) -> bytes | str:
        """A file as its bytes or its path; a graph is converted.

        Raises:
            CostError: an operator that has no conversion.
        """
        is_file = isinstance(model, bytes | str | Path)
        return as_bytes(model if is_file else self.convert(model, {}, {}))

    def encode(self, model: Source, shape: Sequence[int]) -> bytes:
        """An ONNX model as a file of the runtime; a file as it is.

        Raises:
            CostError: an operator that has no conversion.
        """
        return super().encode(self.content(model), shape)


@contextlib.contextmanager
def as_file(content: bytes | str) -> Generator[str]:
    """The path of a file, written for a moment where there are only its bytes.

    Raises:
        CostError: no room is left for it.
    """
    if isinstance(content, str):
        yield content
        return
    with scratch() as folder:
        path = folder / "model"
        path.write_bytes(content)
        yield str(path)


def refusal(runtime: str, what: str, error: Exception) -> CostError:
    """The first line in which a runtime says why it does not take a file or a graph."""
    told = error.strerror if isinstance(error, OSError) else None
    return CostError(f"{runtime} refuses the {what}: {first_line(told or error)}")


def channels_first(shape: Sequence[int]) -> list[int]:
    """Shape of an input, of images with their channels first, as everywhere here.

    >>> channels_first([2, 32, 16, 3]), channels_first([2, 7, 3])
    ([2, 3, 32, 16], [2, 7, 3])
    """
    if len(shape) != 4:
        return list(shape)
    count, height, width, channels = shape
    return [count, channels, height, width]
