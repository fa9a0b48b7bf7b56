"""LiteRT (TensorFlow Lite) on the processor, with the fast kernels of XNNPACK where it has some."""

from __future__ import annotations

from ..runtime_spec import RuntimeSpec
from ..standalone import litert_graph
from ..standalone.energy_meter import PROCESSOR
from .converting import FileRuntime


class LiteRtRuntime(FileRuntime):
    """Converts ONNX graphs, and runs what it converted on a number of threads."""

    title, part, writer = "LiteRT", litert_graph, "..tflite.convert:to_tflite"


SPEC = RuntimeSpec(
    name="litert",
    distributions=("ai-edge-litert",),
    install="vitpareto[litert]",
    format="tflite",
    chips={"CPU": PROCESSOR},
    open=LiteRtRuntime,
    integer_kernels=tuple(f"*{name}:int*" for name in litert_graph.MULTIPLIES),
    converts=True,
    recipes=("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4"),
    channels_last=True,
    tested=("2.1", "2.3"),
)
