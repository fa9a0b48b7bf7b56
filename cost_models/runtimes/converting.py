"""Converting: what runtimes share that read files of their own, made from ONNX graphs here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError, first_line
from ...spaces.registry import loaded
from ..device import Device
from ..runtime_spec import find_runtime
from ..standalone.runner import REFUSALS
from ..standalone.silence import silent
from ..stored_weights import StoredWeights
from . import Runtime, Source, as_bytes
from .scratch import scratch

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]


class Converting(Runtime):
    """A runtime that converts ONNX graphs.

    Attributes:
        title: its name, as errors call it.
        writer: function that converts, as "module:name" from this folder; it needs onnx, which is
            not where devices are only known.
    """

    title: str
    writer: str

    def convert(
        self,
        model: onnx.ModelProto,
        weights: Mapping[str, StoredWeights],
        about: Mapping[str, str],
    ) -> bytes:
        """Make a file of a float graph.

        Raises:
            CostError: an operator that has no conversion.
        """
        return loaded(self.writer, __package__)(model, weights, about)

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


class FileRuntime(Converting):
    """A runtime whose files are opened here as they are in bundles and kits.

    Args:
        device: with its threads.

    Attributes:
        part: module of `standalone` that opens them.

    Raises:
        ModuleNotFoundError: the runtime is not installed.
    """

    part: Any

    def __init__(self, device: Device) -> None:
        with silent():
            for name in self.part.MODULES:
                import_module(name)
        self._device = device.to_dict()
        self._channels_last = find_runtime(device.runtime).channels_last

    def compile(self, model: Source) -> FileModel:
        """Open a file.

        Raises:
            CostError: the runtime refuses it.
        """
        with as_file(self.content(model)) as path, refusing(self.title, "file"):
            return FileModel(self.title, self.part.Graph(path, self._device), self._channels_last)


class FileModel:
    """A file that is open.

    Attributes:
        input_shape: of the one input; images have their channels first, as everywhere here.
    """

    def __init__(self, title: str, graph: Any, channels_last: bool) -> None:
        self._title, self._graph = title, graph
        shape = list(graph.input_shape)
        self.input_shape = channels_first(shape) if channels_last else shape

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> outputs.

        Where the file has channels last, images that lie so in memory are not copied.

        Raises:
            CostError: the runtime refuses to run it, which some only tell then.
        """
        try:
            return self._graph.run(images)
        except REFUSALS as error:
            raise refusal(self._title, "graph", error) from error

    def kernels(self) -> dict[str, int]:
        """Executed kernels with what they multiply."""
        return self._graph.kernels()

    def memory_mb(self) -> float | None:
        """Memory that the runtime says it holds; `footprint` measures others from outside."""
        own: Callable[[], float] | None = getattr(self._graph, "memory_mb", None)
        return own() if own else None


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


@contextlib.contextmanager
def refusing(
    runtime: str,
    what: str,
    errors: tuple[type[Exception], ...] = (OSError, *REFUSALS),
    line: Callable[[Exception], str] = first_line,
) -> Generator[None]:
    """Tell in one line why a runtime does not take something.

    Args:
        runtime: as errors call it.
        what: it does not take, such as "file".
        errors: by which it says so.
        line: of its message that says why.

    Raises:
        CostError: there was such an error.
    """
    try:
        yield
    except errors as error:
        raise refusal(runtime, what, error, line) from error


def refusal(
    runtime: str, what: str, error: Exception, line: Callable[[Exception], str] = first_line
) -> CostError:
    """The error that `refusing` raises."""
    told = error.strerror if isinstance(error, OSError) else None
    return CostError(f"{runtime} refuses the {what}: {told or line(error)}")


def channels_first(shape: Sequence[int]) -> list[int]:
    """Shape of an input, of images with their channels first, as everywhere here.

    >>> channels_first([2, 32, 16, 3]), channels_first([2, 7, 3])
    ([2, 3, 32, 16], [2, 7, 3])
    """
    if len(shape) != 4:
        return list(shape)
    count, height, width, channels = shape
    return [count, channels, height, width]
