"""Node names: a graph whose nodes are called as what they make, which runtimes keep a trace of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def with_names(source: bytes | str) -> onnx.ModelProto:
    """A graph whose nodes are called as their first outputs.

    Args:
        source: an ONNX file as its bytes or its path.
    """
    import onnx  # devices are known, and costs predicted, without it

    read = onnx.load_model_from_string if isinstance(source, bytes) else onnx.load
    model: onnx.ModelProto = read(source)  # type: ignore[operator]
    for node in model.graph.node:
        node.name = next(name for name in node.output if name)
    return model
