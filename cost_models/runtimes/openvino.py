"""OpenVINO on the processor."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import last_line
from ..device import Device
from ..runtime_spec import ONNX, RuntimeSpec
from ..standalone.energy_meter import PROCESSOR
from ..standalone.openvino_graph import kernels_of
from . import Runtime, Source, as_bytes
from .converting import refusing
from .kernel import Kernel
from .node_names import with_names
from .openvino_profile import read_layers

Array = NDArray[np.float32]


class OpenVinoModel:
    """One compiled model with its infer request."""

    def __init__(self, core: Any, model: Source, device: Device) -> None:
        self._compiled = _compiled(core, as_bytes(model), device)
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


class OpenVinoWatched:
    """One compiled model that counts the time of its layers."""

    def __init__(self, core: Any, model: Source, device: Device) -> None:
        named = with_names(as_bytes(model))
        self._operators = {node.name: node.op_type for node in named.graph.node}
        self._compiled = _compiled(core, named.SerializeToString(), device, PERF_COUNT=True)
        self._request = self._compiled.create_infer_request()
        self._runs: list[dict[str, float]] = []

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> outputs."""
        answer = self._request.infer([images])[self._compiled.outputs[0]]
        told = self._request.get_profiling_info()
        executed = [layer for layer in told if layer.status.name == "EXECUTED"]
        self._runs.append({x.node_name: x.real_time.total_seconds() * 1e3 for x in executed})
        return answer

    def kernels(self) -> tuple[list[Kernel], NDArray[np.float64]]:
        """Layers in order of execution, and (runs, layers) ms of each."""
        executed = set[str]().union(*self._runs)
        layers = read_layers(self._compiled, executed, self._operators)
        return layers, np.array([[run.get(x.name, 0.0) for x in layers] for run in self._runs])


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
        with refusing("OpenVINO", "graph", (RuntimeError,), last_line):
            return OpenVinoModel(self._core, model, self._device)

    def watched(self, model: Source) -> OpenVinoWatched:
        """Compile a graph that tells how long each of its layers takes.

        Raises:
            CostError: OpenVINO refuses the graph.
        """
        with refusing("OpenVINO", "graph", (RuntimeError,), last_line):
            return OpenVinoWatched(self._core, model, self._device)


def _compiled(core: Any, source: bytes | str, device: Device, **more: Any) -> Any:
    read = core.read_model(source if isinstance(source, bytes) else str(Path(source)))
    options = {"INFERENCE_NUM_THREADS": device.threads, "PERFORMANCE_HINT": "LATENCY", **more}
    return core.compile_model(read, device.provider, options)


SPEC = RuntimeSpec(
    name="openvino",
    distributions=("openvino",),
    install="vitpareto[openvino]",
    format=ONNX,
    chips={"CPU": PROCESSOR},
    open=OpenVinoRuntime,
    in_caller=False,  # even one thread is one of its own
    kernel_times=("CPU",),
    integer_kernels=("*:i8", "*:u8"),  # kernels are named with the precision in which they run
    half_kernels=("*:bf16", "*:f16"),
)
