"""Convert: an ONNX graph as a program of ExecuTorch, by way of TFLite's operators.

torch.export and ExecuTorch's own lowering take minutes for a network and leave norms to kernels
outside of XNNPACK; a graph that is written directly takes a fraction of a second, and XNNPACK runs
it as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import onnx

from ..onnx_ranking import without_top_k
from ..onnx_reading import told_of, write_operators
from ..stored_weights import StoredWeights
from ..tflite.conversion import Conversion
from ..tflite.operators import OPERATORS as TFLITE
from .operators import OPERATORS, refusal
from .program import encode_delegate, encode_program
from .xnnpack import XnnpackGraph


class _Conversion(Conversion):
    target = "ExecuTorch"


def to_executorch(
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeights] | None = None,
    about: Mapping[str, str] | None = None,
) -> bytes:
    """A program of ExecuTorch.

    Args:
        model: a graph in float32 with one input and one output, as `graphs.to_onnx` makes it.
        weights: how layers are stored, by the name of their weight in the graph; the others in
            float32.
        about: JSON by name, kept in the program.

    Raises:
        CostError: an operator that has no conversion, by name.
    """
    conversion = write_operators(_Conversion(without_top_k(model), weights or {}), TFLITE)
    image, output = conversion.ends()
    graph = XnnpackGraph(conversion.graph, image, output)
    for operator in conversion.graph.needed(output):
        if operator.kind not in OPERATORS:
            raise refusal(operator, "has no conversion")
        OPERATORS[operator.kind](graph, operator)
    shapes = conversion.graph.shape(image), conversion.graph.shape(output)
    return encode_program(encode_delegate(*graph.encode()), *shapes, json.dumps(told_of(about)))
