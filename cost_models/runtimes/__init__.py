"""Runtimes: one adapter a file behind one protocol."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...spaces.errors import MissingRuntimeError
from ..device import Device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Source = Any  # onnx.ModelProto, its bytes, a path to it, or a torch module for torch


class Compiled(Protocol):
    """A graph that is ready to run."""

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of the compiled shape -> outputs."""
        ...

    def kernels(self) -> dict[str, int]:
        """How often each kind of kernel stands in the graph that the runtime executes."""
        ...

    def memory_mb(self) -> float | None:
        """Memory that the runtime says it holds for this graph; None where it does not say."""
        ...


class Runtime(Protocol):
    """Compiles graphs for one device.

    Attributes:
        takes: "onnx" or "module": what `compile` wants.
    """

    takes: str

    def compile(self, model: Source) -> Compiled:
        """Make a graph ready to run.

        Raises:
            CostError: the runtime refuses the graph.
        """
        ...


@dataclass(frozen=True)
class RuntimeSpec:
    """What is known of a runtime before it is loaded.

    Attributes:
        format: name of the files that it runs.
    """

    format: str


def find_runtime(name: str) -> RuntimeSpec:
    """The runtime of that name."""
    return RuntimeSpec("torchscript" if name == "torch" else "onnx")


def open_runtime(device: Device) -> Runtime:
    """The runtime that a device names.

    Raises:
        MissingRuntimeError: it is not installed, with the extra that installs it.
    """
    try:
        adapter = import_module(f".{device.runtime}", __package__)
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(
            f"device {device.name!r} needs {device.runtime}, which is not installed: "
            f"pip install 'vitpareto[{device.runtime}]'"
        ) from error
    return adapter.open_runtime(device)


def available(device: Device) -> str:
    """Why a device cannot be used here; empty where it can."""
    try:
        open_runtime(device)
    except MissingRuntimeError as error:
        return str(error)
    return ""


def as_bytes(model: Source) -> bytes | str:
    """A model as bytes, or the path where it is too large to copy or already a file."""
    if isinstance(model, bytes):
        return model
    if isinstance(model, str | Path):
        return str(model)
    return model.SerializeToString()
