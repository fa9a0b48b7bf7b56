"""ExecuTorch on the processor: programs that XNNPACK runs as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import MissingRuntimeError
from ..device import Device
from ..runtime_spec import RuntimeSpec
from ..standalone.energy_meter import PROCESSOR
from ..standalone.executorch_graph import MODULES, Graph, version
from ..stored_weights import StoredWeights
from . import Source
from .converting import Converting, as_file, channels_first, refusal

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]


class ExecuTorchModel:
    """One program."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @property
    def input_shape(self) -> list[int]:
        """Shape of the one input; images have their channels first, as everywhere here."""
        return channels_first(self._graph.input_shape)

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> outputs.

        The file has images with their channels last: those that lie so in memory are not copied.

        Raises:
            CostError: XNNPACK refuses what it is to run, which it only tells then.
        """
        try:
            return self._graph.run(images)
        except RuntimeError as error:
            raise refusal("ExecuTorch", "graph", error) from error

    def kernels(self) -> dict[str, int]:
        """Executed kernels of XNNPACK with what they multiply."""
        return self._graph.kernels()

    def memory_mb(self) -> None:
        """Nothing: ExecuTorch does not say; `footprint` measures it from outside."""
        return


class ExecuTorchRuntime(Converting):
    """Converts ONNX graphs, and runs what it converted on a number of threads."""

    def __init__(self, device: Device) -> None:
        self._device = device.to_dict()

    def compile(self, model: Source) -> ExecuTorchModel:
        """Load a program.

        Raises:
            CostError: ExecuTorch refuses the file.
        """
        content = self.content(model)
        try:
            with as_file(content) as path:
                return ExecuTorchModel(Graph(path, self._device))
        except (OSError, RuntimeError) as error:
            raise refusal("ExecuTorch", "file", error) from error

    def convert(
        self,
        model: onnx.ModelProto,
        weights: Mapping[str, StoredWeights],
        about: Mapping[str, str],
    ) -> bytes:
        """Make a program of a float graph.

        Raises:
            CostError: an operator that has no conversion.
        """
        from ..executorch.convert import to_executorch

        return to_executorch(model, weights, about)


def open_runtime(device: Device) -> ExecuTorchRuntime:
    """ExecuTorch, with its libraries loaded.

    Raises:
        ModuleNotFoundError: it is not installed.
        MissingRuntimeError: it was built for another release of torch.
    """
    try:
        for name in MODULES:
            import_module(name)
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise MissingRuntimeError(
            f"device {device.name!r}: executorch {version()} does not go with this torch: {error}"
        ) from error
    return ExecuTorchRuntime(device)


SPEC = RuntimeSpec(
    name="executorch",
    distributions=("executorch",),
    install="vitpareto[executorch]",
    format="executorch",
    chips={"CPU": PROCESSOR},
    open=open_runtime,
    integer_kernels=("*, QD8, *", "*, QDU8, *", "*, QP8, *"),  # of a kernel in XNNPACK's words
    converts=True,
    recipes=("float", "dynamic8"),
    channels_last=True,
    tested=("1.5", "1.5"),
)
