"""Tencent's ncnn on the processor, the runtime of many phone apps."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from ..device import Device
from ..runtime_spec import RuntimeSpec
from ..standalone.energy_meter import PROCESSOR
from ..standalone.ncnn_graph import Graph
from ..stored_weights import StoredWeights
from . import Source
from .converting import Converting, as_file, refusal

if TYPE_CHECKING:
    import onnx


class NcnnModel(Graph):
    """One network."""

    def memory_mb(self) -> None:
        """Nothing: ncnn does not say; `footprint` measures it from outside."""
        return


class NcnnRuntime(Converting):
    """Converts ONNX graphs, and runs what it converted on a number of threads."""

    def __init__(self, device: Device) -> None:
        import_module("ncnn")
        self._device = device.to_dict()

    def compile(self, model: Source) -> NcnnModel:
        """Load a network.

        Raises:
            CostError: ncnn refuses the file.
        """
        content = self.content(model)
        try:
            with as_file(content) as path:
                return NcnnModel(path, self._device)
        except (OSError, ValueError, RuntimeError) as error:
            raise refusal("ncnn", "file", error) from error

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
        from ..ncnn.convert import to_ncnn

        return to_ncnn(model, weights, about)


SPEC = RuntimeSpec(
    name="ncnn",
    distributions=("ncnn",),
    install="vitpareto[ncnn]",
    format="ncnn",
    chips={"CPU": PROCESSOR},
    open=NcnnRuntime,
    integer_kernels=("Gemm:int8",),
    converts=True,
    recipes=("float", "fp16", "dynamic8", "stored8"),
    tested=("1.0.20250916", "1.0.20261020"),
)
