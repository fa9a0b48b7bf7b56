"""Tencent's ncnn on the processor, the runtime of many phone apps."""

from __future__ import annotations

from ..runtime_spec import RuntimeSpec
from ..standalone import ncnn_graph
from ..standalone.energy_meter import PROCESSOR
from .converting import FileRuntime


class NcnnRuntime(FileRuntime):
    """Converts ONNX graphs, and runs what it converted on a number of threads."""

    title, part, writer = "ncnn", ncnn_graph, "..ncnn.convert:to_ncnn"


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
