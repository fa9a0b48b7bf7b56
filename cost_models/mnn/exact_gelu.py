"""Exact GELU: written in operators that MNN computes as they are defined.

MNN has a GELU of its own, by a formula that is a ten-thousandth off, and a few blocks make more of
it. It also recognizes the usual way to write one with Erf, so this is another.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

CUBED = 0.044715  # of the approximation with a hyperbolic tangent, Hendrycks and Gimpel 2016


def exact_gelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with x / 2 * (1 + f(x)) written as (x * f(x) + x) / 2 for each Gelu."""
    if not any(node.op_type == "Gelu" for node in model.graph.node):
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    del new.graph.node[:]
    for node in model.graph.node:
        if node.op_type == "Gelu":
            _write(new.graph, node)
        else:
            new.graph.node.append(node)
    return new


def _write(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    (x,), (y,) = node.input, node.output

    def made(kind: str, *inputs: str, out: str = "") -> str:
        name = out or f"{y}/{len(graph.node)}"
        graph.node.append(helper.make_node(kind, inputs, [name]))
        return name

    def number(value: float) -> str:
        name = f"{y}/{len(graph.initializer)}c"
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.float32), name))
        return name

    told: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if told.get("approximate", b"none") == b"tanh":
        cubed = made("Mul", made("Mul", made("Mul", x, x), x), number(CUBED))
        inner = made("Mul", made("Add", cubed, x), number(sqrt(2 / pi)))
        shape = made("Tanh", inner)
    else:
        shape = made("Erf", made("Mul", x, number(sqrt(0.5))))
    made("Mul", made("Add", made("Mul", x, shape), x), number(0.5), out=y)
