"""OpenVINO on the processor."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError
from ..device import Device
from ..runtime_spec import ONNX, RuntimeSpec
from ..standalone.energy_meter import PROCESSOR
from ..standalone.openvino_graph import kernels_of
from . import Runtime, Source, as_bytes

Array = NDArray[np.float32]


class OpenVinoModel:
    """One compiled model with its infer request."""

    def __init__(self, core: Any, model: Source, device: Device) -> None:
        source = as_bytes(model)
        read = core.read_model(source if isinstance(source, bytes) else str(Path(source)))
        options = {"INFERENCE_NUM_THREADS": device.threads, "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = core.compile_model(read, device.provider, options)
        self._request = self._compiled.create_infer_request()

    @property
    def input_shape(self) -> list[int]:
        """Shape of the one input."""
        return [int(n) for n in self._compiled.inputs[0].shape]

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> outputs."""
        return self._request.infer([images])[self._compiled.outputs[0]]

    def kernels(self) -> dict[str, int]:
        """Executed layers with the precision in which each really runs."""
        return kernels_of(self._compiled)

    def memory_mb(self) -> None:
        """OpenVINO does not say; `footprint` measures it from outside."""
        return


class OpenVinoRuntime(Runtime):
    """Compiles for one plugin and number of threads."""

    def __init__(self, device: Device) -> None:
        openvino: Any = import_module("openvino")  # an extra, without type stubs
        self._device, self._core = device, openvino.Core()

    def compile(self, model: Source) -> OpenVinoModel:
        """Compile a graph.

        Raises:
            CostError: OpenVINO refuses the graph.
        """
        try:
            return OpenVinoModel(self._core, model, self._device)
        except RuntimeError as error:
            first = (str(error).strip().splitlines() or ["no message"])[-1]
            raise CostError(f"OpenVINO refuses the graph: {first}") from error


SPEC = RuntimeSpec(
    name="openvino",
    distributions=("openvino",),
    install="vitpareto[openvino]",
    format=ONNX,
    chips={"CPU": PROCESSOR},
    open=OpenVinoRuntime,
    in_caller=False,  # even one thread is one of its own
    integer_kernels=("*:i8", "*:u8"),  # kernels are named with the precision in which they run
    half_kernels=("*:bf16", "*:f16"),
)
