"""Alibaba's MNN on the processor, the runtime of its apps on phones."""

from __future__ import annotations

from ..runtime_spec import RuntimeSpec
from ..standalone import mnn_graph
from ..standalone.energy_meter import PROCESSOR
from .converting import FileRuntime


class MnnRuntime(FileRuntime):
    """Converts ONNX graphs by MNN's converter, which refuses some and dies of others."""

    title, part, writer = "MNN", mnn_graph, "..mnn.convert:to_mnn"


SPEC = RuntimeSpec(
    name="mnn",
    distributions=("MNN",),
    install="vitpareto[mnn]",
    format="mnn",
    chips={"CPU": PROCESSOR},
    open=MnnRuntime,
    converts=True,
    # Integers take 1.8 to 3.4 times as long as floats in its kernels for x86.
    recipes=("float",),
    tested=("3.6", "3.6"),
)
