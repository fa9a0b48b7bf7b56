"""Runtimes: one adapter a file behind one protocol; see `runtime_spec` for what each states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...spaces.errors import CostError, MissingRuntimeError
from ..device import Device
from ..runtime_spec import RuntimeSpec, find_runtime
from ..standalone.runner import peak_mb
from .kernel import Watched

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from ..stored_weights import StoredWeights

__all__ = [
    "Compiled",
    "Runtime",
    "RuntimeSpec",
    "Source",
    "as_bytes",
    "available",
    "find_runtime",
    "open_runtime",
    "run_all",
]
Source = Any  # onnx.ModelProto, its bytes, a path to it, or a torch module for torch


class Compiled(Protocol):
    """A graph that is ready to run."""

    @property
    def input_shape(self) -> list[int]:
        """Shape of its one input; empty where unknown."""
        ...

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of the compiled shape -> outputs."""
        ...

    def kernels(self) -> dict[str, int]:
        """Count of each kind of kernel in the graph that the runtime executes."""
        ...

    def memory_mb(self) -> float | None:
        """Memory that the runtime says it holds for this graph; None where it does not say."""
        ...


class Runtime(Protocol):
    """Compiles graphs for one device."""

    def compile(self, model: Source) -> Compiled:
        """Make a graph ready to run.

        Args:
            model: a file of the runtime's format as its path or its bytes, or an `onnx.ModelProto`
                or a torch module where it takes these.

        Raises:
            CostError: the runtime refuses the graph, in one line.
        """
        ...

    def encode(self, model: Source, shape: Sequence[int]) -> bytes:
        """Encode a model as a file of the runtime's format, which other processes can load.

        Args:
            model: an ONNX model, which is one already or is converted; or a torch module in
                evaluation mode, where the runtime has nothing to do with ONNX.
            shape: of its input.
        """
        content = as_bytes(model)
        return content if isinstance(content, bytes) else Path(content).read_bytes()

    def watched(self, model: Source) -> Watched:
        """Open a graph that tells how long each of its kernels takes.

        Args:
            model: as in `compile`.

        Raises:
            CostError: the runtime refuses the graph, or tells no such thing.
        """
        raise CostError(f"{type(self).__name__} does not tell how long its kernels take")

    def renew(self) -> None:
        """Begin anew with memory that nothing has used, where graphs run outside."""

    def peak_mb(self) -> float:
        """Largest memory in MB of what runs graphs, since it began."""
        return peak_mb()

    def convert(
        self,
        model: onnx.ModelProto,
        weights: Mapping[str, StoredWeights],
        about: Mapping[str, str],
    ) -> bytes:
        """Make a file of a float graph, where the runtime's spec says that it converts.

        Args:
            model: the graph.
            weights: how layers are stored, by the name of their weight; the others as they are.
            about: texts that the file is to hold, by name.

        Raises:
            CostError: an operator that the runtime does not have, by name.
        """
        raise CostError(f"{type(self).__name__} converts nothing: it reads files of others")


def open_runtime(device: Device) -> Runtime:
    """The runtime that a device names.

    Raises:
        MissingRuntimeError: it is not installed, with what installs it, or in a version that was
            not tested.
    """
    spec = find_runtime(device.runtime)
    if spec.version and spec.untested:
        raise MissingRuntimeError(f"device {device.name!r}: {spec.untested}")
    try:
        return spec.open(device)
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(
            f"device {device.name!r} needs {spec.name}, which is not installed: {spec.command}"
        ) from error


def available(device: Device) -> str:
    """Reason why a device cannot be used here; empty where it can."""
    try:
        open_runtime(device)
    except MissingRuntimeError as error:
        return str(error)
    return ""


def run_all(compiled: Compiled, images: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Outputs for any number of images; the last batch is filled up with them again.

    Args:
        compiled: runs a batch; where it has a `run_all` of its own, any number at once.
        images: (N, C, S, S).
        batch: images of one run.
    """
    import numpy as np

    missing = np.arange(-len(images) % batch)  # may be more than there are
    padded = np.concatenate([images, images.take(missing, axis=0, mode="wrap")])
    own: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None
    if own := getattr(compiled, "run_all", None):
        return own(padded)[: len(images)]
    parts = np.split(padded, len(padded) // batch)
    return np.concatenate([compiled.run(x) for x in parts])[: len(images)]


def as_bytes(model: Source) -> bytes | str:
    """A model as bytes, or the path where it is too large to copy or already a file."""
    if isinstance(model, bytes):
        return model
    if isinstance(model, str | Path):
        return str(model)
    return model.SerializeToString()
