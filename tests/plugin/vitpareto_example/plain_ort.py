"""A runtime of its own: ONNX Runtime with no more than its basic optimizations."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vitpareto.cost_models.runtime_spec import ONNX, RuntimeSpec
from vitpareto.cost_models.runtimes import Runtime, as_bytes
from vitpareto.cost_models.standalone.energy_meter import PROCESSOR
from vitpareto.spaces.errors import CostError


class PlainModel:
    """One session."""

    def __init__(self, source: Any, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self._source = source
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    @property
    def input_shape(self) -> list[int]:
        return list(self._session.get_inputs()[0].shape)

    def run(self, images: Any) -> Any:
        return self._session.run(None, {self._session.get_inputs()[0].name: images})[0]

    def kernels(self) -> dict[str, int]:
        """Those of the file: basic optimizations fuse nothing into other kernels."""
        import onnx

        load = onnx.load_model_from_string if isinstance(self._source, bytes) else onnx.load
        return dict(Counter(node.op_type for node in load(self._source).graph.node))

    def memory_mb(self) -> None:
        return None


class PlainRuntime(Runtime):
    """Compiles for a number of threads."""

    def __init__(self, device: Any) -> None:
        import onnxruntime  # noqa: F401 - says here that it is not installed

        self._threads = device.threads

    def compile(self, model: Any) -> PlainModel:
        try:
            return PlainModel(as_bytes(model), self._threads)
        except Exception as error:  # ONNX Runtime's errors share no other base class
            raise CostError(f"refused: {str(error).splitlines()[0]}") from error


SPEC = RuntimeSpec(
    name="plain_ort",
    distributions=("onnxruntime",),
    install="onnxruntime",
    format=ONNX,
    chips={"CPUExecutionProvider": PROCESSOR},
    open=PlainRuntime,
    folds_constants=True,
    integer_kernels=("MatMulInteger", "ConvInteger"),
)
