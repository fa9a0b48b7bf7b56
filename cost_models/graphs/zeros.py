"""Zeros: weights of a graph stored without their zeros, which are put in when it is loaded.

A weight becomes the values that are not zero, in order, and a bit for each of its places that says
whether one stands there. Standard operators put them together, from constants alone, so that a
runtime that folds constants has the dense weight before the first run: files become smaller, and
nothing becomes faster or slower. A 2:4 pattern takes four bits for four weights so, as the metadata
of sparse tensor cores do; where weights are zero in whole blocks, a bit stands for a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ...spaces.transforms.sparsity import BLOCK
from ..units.zeros import GAIN, NODES_BYTES
from .linear_layers import LINEAR, OnnxGraph

BITS: dict[int, int] = {
    TensorProto.INT4: 4,
    TensorProto.INT8: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.FLOAT: 32,
}
BYTE = np.array([[1, 2, 4, 8, 16, 32, 64, 128]], np.uint8)
OPSET = 18  # the first with BitwiseAnd


def without_zeros(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every weight of a layer packed that becomes smaller so.

    Args:
        model: whose layers are in the precision in which they are stored.
    """
    graph = OnnxGraph(model)
    written: dict[str, str] = {}  # constant -> what takes its place
    for name in _weights(model.graph):
        _pack(graph, graph.constants[name], written)
    if not written:
        return model
    for node in model.graph.node:
        other = onnx.NodeProto()
        other.CopyFrom(node)
        other.input[:] = [written.get(name, name) for name in node.input]
        graph.nodes.append(other)
    graph.needs(OPSET)
    return graph.finish()


def _weights(graph: onnx.GraphProto) -> list[str]:
    """Names of the constants from which the layers of a graph get their weights."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    names: dict[str, None] = {}
    for node in graph.node:
        if node.op_type not in (*LINEAR, "MatMulInteger", "ConvInteger"):
            continue
        name = node.input[1]
        while name in made and made[name].op_type in ("DequantizeLinear", "Cast", "Mul"):
            name = made[name].input[0]
        if name in constants and len(constants[name].dims) > 1:
            names[name] = None
    return list(names)


def _pack(graph: OnnxGraph, tensor: onnx.TensorProto, written: dict[str, str]) -> None:
    bits = BITS.get(tensor.data_type)
    if bits is None:
        return
    weight = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.INT4:
        weight = weight.astype(np.int8)
    dense = -(-weight.size * bits // 8)
    forms = [form for run in (1, BLOCK) if (form := _form(weight, run))]
    sizes = [len(f.where) + -(-f.values.size * bits // 8) + NODES_BYTES for f in forms]
    if not forms or min(sizes) > GAIN * dense:
        return
    form = forms[int(np.argmin(sizes))]
    written[tensor.name] = _unpacking(graph, tensor, form)


class _Form:
    """A weight without its zeros.

    Attributes:
        where: a bit for each run, the first in the lowest place (bytes, 1).
        values: a run of zeros, and the runs that are there (1 + kept, run).
        runs: their number, with those that are not there.
        shape: of the weight as the runs fill it in order.
        turned: whether the runs lie along the first axis of the weight.
    """

    def __init__(self, weight: NDArray[Any], run: int, turned: bool) -> None:
        lying = weight.T if turned else weight
        runs = lying.reshape(-1, run)
        there = (runs != 0).any(1)
        self.where = np.packbits(there, bitorder="little")[:, None]
        self.values, self.runs = np.concatenate([np.zeros_like(runs[:1]), runs[there]]), len(runs)
        self.shape, self.turned = lying.shape, turned


def _form(weight: NDArray[Any], run: int) -> _Form | None:
    """A weight in runs of its inputs; None where they do not fill whole runs."""
    turned = run > 1 and weight.ndim == 2  # linear layers hold (inputs, outputs)
    inputs = weight.shape[0] if weight.ndim == 2 else int(np.prod(weight.shape[1:]))
    return _Form(weight, run, turned) if inputs % run == 0 else None


def _unpacking(graph: OnnxGraph, tensor: onnx.TensorProto, form: _Form) -> str:
    """Add the nodes that put a weight together; the name of the result."""
    name, kind = tensor.name, tensor.data_type
    del graph.constants[name]  # the values take its name, which says whose weight it is
    values = (graph.packed if kind == TensorProto.INT4 else graph.constant)(name, form.values)

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        result = f"z{len(graph.nodes):x}"
        graph.nodes.append(helper.make_node(kind, inputs, [result], **attributes))
        return result

    if kind == TensorProto.INT4:
        values = add("Cast", values, to=TensorProto.INT8)
    where = graph.constant(f"w{len(graph.nodes):x}", form.where)
    row = add(
        "Reshape", add("BitwiseAnd", where, graph.constant("byte", BYTE)), _numbers(graph, -1)
    )
    if len(form.where) * 8 > form.runs:  # the last byte is not full
        row = add("Slice", row, _numbers(graph, 0), _numbers(graph, form.runs))
    ones = add("Cast", add("Cast", row, to=TensorProto.BOOL), to=TensorProto.INT32)
    # The first of the stored values is 0, and the others are counted from 1.
    count = add("CumSum", ones, graph.constant("axis", np.array(0, np.int64)))
    filled = add("Gather", values, add("Mul", count, ones))
    lying = add("Reshape", filled, _numbers(graph, *form.shape))
    return add("Transpose", lying, perm=[1, 0]) if form.turned else lying


def _numbers(graph: OnnxGraph, *values: int) -> str:
    return graph.constant("x".join(map(str, values)), np.array(values, np.int64))
