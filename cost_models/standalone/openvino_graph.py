"""OpenVINO's graph: a file that is opened with openvino alone, and none of this package.

It is copied into bundles and kits, as graph.py.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module, metadata
from typing import Any

PACKAGE = MODULE = "openvino"
MODULES = (MODULE,)  # that are loaded before a model is


def version() -> str:
    """Version that is installed, in the words of `Device.identity`."""
    return metadata.version(PACKAGE)


class Graph:
    """A compiled model with its infer request.

    Args:
        path: of an ONNX file.
        device: its threads, and the plugin as provider.

    Raises:
        RuntimeError: OpenVINO refuses the file.
    """

    def __init__(self, path: str, device: dict[str, Any]) -> None:
        core = import_module(MODULE).Core()
        options = {"INFERENCE_NUM_THREADS": device["threads"], "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = core.compile_model(core.read_model(path), device["provider"], options)
        self._request = self._compiled.create_infer_request()

    def run(self, x: Any) -> Any:
        """Inputs -> first output."""
        return self._request.infer([x])[self._compiled.outputs[0]]

    def kernels(self) -> dict[str, int]:
        """Count of each kind of layer that is executed, with the precision in which it runs."""
        return kernels_of(self._compiled)


def kernels_of(compiled: Any) -> dict[str, int]:
    """Count of each kind of layer of a compiled model, with the precision in which it runs."""
    counts: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        about = node.get_rt_info()
        kind = str(about["layerType"].astype(str))
        precision = str(about["runtimePrecision"].astype(str))
        if kind not in ("Input", "Output", "Const"):
            counts[f"{kind}:{precision}"] += 1
    return dict(counts)
