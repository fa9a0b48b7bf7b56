"""Ranking: TopK and what reads at its places, written for runtimes that can do neither.

The rank of a token is counted, by comparing it with all others, and a matrix of zeros and ones
picks the first ones. With N tokens that takes a few operations on N times N numbers, which is what
attention takes, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LARGE = 1e30  # by which a difference of two scores is more than any place, however small
BETWEEN = ("Expand", "Unsqueeze")  # operators between places and what reads there


def without_top_k(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its TopKs and their GatherElements counted and multiplied.

    Those that do not rank rows (B, N) of which tokens (B, N, C) are kept stay as they are, and so
    do those whose places something else reads, too.
    """
    if not any(node.op_type == "TopK" for node in model.graph.node):
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = (*inferred.value_info, *inferred.input, *inferred.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    picks: dict[str, str] = {}  # places -> the matrix that picks what is there
    del new.graph.node[:]
    for node in model.graph.node:
        if node.op_type == "TopK" and _ranks_rows(node, shapes) and _only_gathers(node, model):
            kept = int(constants[node.input[1]].reshape(()))
            picks[node.output[1]] = _counted(new.graph, node, shapes[node.input[0]][1], kept)
        elif node.op_type in BETWEEN and node.input[0] in picks:
            picks[node.output[0]] = picks[node.input[0]]
        elif node.op_type == "GatherElements" and node.input[1] in picks:
            inputs = [picks[node.input[1]], node.input[0]]
            new.graph.node.append(helper.make_node("MatMul", inputs, node.output))
        else:
            new.graph.node.append(node)
    return new


def _ranks_rows(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> bool:
    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shape = shapes[node.input[0]]
    return len(shape) == 2 and told.get("axis", -1) in (-1, 1) and told.get("largest", 1) == 1


def _only_gathers(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether nothing reads at the places but GatherElements."""
    places = {node.output[1]}
    for reader in model.graph.node:
        if not places & set(reader.input):
            continue
        if reader.op_type in BETWEEN:
            places |= set(reader.output)
        elif reader.op_type != "GatherElements":
            return False
    return True


def _counted(graph: onnx.GraphProto, node: onnx.NodeProto, count: int, kept: int) -> str:
    """Add what finds a matrix (B, K, N) with a one in each row, where the token of that rank is.

    A token is behind all that are larger, and behind equal ones that come before it.
    """
    x, (values, index) = node.input[0], node.output

    def made(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{index}/{len(graph.node)}"
        graph.node.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(value: Any, kind: Any = np.float32) -> str:
        name = f"{index}/{len(graph.initializer)}c"
        graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    places = np.arange(count)
    column = made("Unsqueeze", x, constant([2], np.int64))
    row = made("Unsqueeze", x, constant([1], np.int64))
    larger = made("Mul", made("Sub", row, column), constant(LARGE))
    before = made("Add", larger, constant(places.reshape(1, -1, 1)))
    behind = made("Sub", before, constant(places.reshape(1, 1, -1)))
    each = made("Clip", behind, constant(0.0), constant(1.0))
    ranks = made("ReduceSum", each, constant([2], np.int64), keepdims=0)
    asked = constant(np.arange(kept).reshape(1, -1, 1))
    away = made("Sub", made("Unsqueeze", ranks, constant([1], np.int64)), asked)
    near = made("Sub", constant(1.0), made("Mul", away, away))
    matrix = made("Relu", near)  # one where the rank is the asked one, as all are whole numbers
    found = made("MatMul", matrix, column)
    graph.node.append(helper.make_node("Squeeze", [found, constant([2], np.int64)], [values]))
    return matrix
