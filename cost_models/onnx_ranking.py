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
# Operators between places and what reads there, by which their order does not change.
BETWEEN = ("Expand", "Unsqueeze", "Reshape", "Flatten", "Squeeze")


def without_top_k(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its TopKs, and what reads and writes at their places, as products.

    Those that do not rank rows (B, N) stay as they are, and so do those whose places something
    else reads than GatherElements of tokens (B, N, C) and, of single images, Gather and ScatterND
    of tokens (N, C). A ScatterND at places that are known is a product, too.
    """
    if not any(node.op_type in ("TopK", "ScatterND") for node in model.graph.node):
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
        if (
            node.op_type == "TopK"
            and _ranks_rows(node, shapes)
            and _only_moves(node, model, shapes)
        ):
            kept = int(constants[node.input[1]].reshape(()))
            picks[node.output[1]] = _counted(new.graph, node, shapes[node.input[0]][1], kept)
        elif node.op_type in BETWEEN and node.input[0] in picks:
            picks[node.output[0]] = picks[node.input[0]]
        elif node.op_type == "GatherElements" and node.input[1] in picks:
            inputs = [picks[node.input[1]], node.input[0]]
            new.graph.node.append(helper.make_node("MatMul", inputs, node.output))
        elif node.op_type == "Gather" and node.input[1] in picks:
            _taken(new.graph, picks[node.input[1]], node.input[0], node.output[0])
        elif node.op_type == "ScatterND" and node.input[1] in picks:
            _put_back(new.graph, picks[node.input[1]], node)
        elif node.op_type == "ScatterND" and _sets_rows(node, constants, shapes):
            count, where = shapes[node.input[0]][0], constants[node.input[1]].reshape(-1)
            name = f"{node.output[0]}/matrix"
            matrix = np.eye(count, dtype=np.float32)[None, where]
            new.graph.initializer.append(numpy_helper.from_array(matrix, name))
            _put_back(new.graph, name, node)
        else:
            new.graph.node.append(node)
    return new


def _ranks_rows(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> bool:
    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shape = shapes[node.input[0]]
    return len(shape) == 2 and told.get("axis", -1) in (-1, 1) and told.get("largest", 1) == 1


def _sets_rows(
    node: onnx.NodeProto, constants: Mapping[str, Any], shapes: Mapping[str, list[int]]
) -> bool:
    """Whether rows of a matrix become others at places that are known."""
    known = node.input[1] in constants and constants[node.input[1]].ndim == 2
    return known and len(shapes[node.input[0]]) == 2 and not node.attribute


def _only_moves(
    node: onnx.NodeProto, model: onnx.ModelProto, shapes: Mapping[str, list[int]]
) -> bool:
    """Whether nothing uses the places but what moves tokens as a product can."""
    places, single = {node.output[1]}, shapes[node.input[0]][0] == 1
    for reader in model.graph.node:
        if not places & set(reader.input):
            continue
        if reader.op_type in BETWEEN:
            places |= set(reader.output)
        elif reader.op_type in ("Gather", "ScatterND"):
            told = {a.name: helper.get_attribute_value(a) for a in reader.attribute}
            if not single or told.get("axis", 0) != 0 or len(shapes[reader.input[0]]) != 2:
                return False
        elif reader.op_type != "GatherElements":
            return False
    return True


def _taken(graph: onnx.GraphProto, matrix: str, rows: str, result: str) -> None:
    """Add what a matrix (1, K, N) makes of rows (N, C): (K, C)."""
    picked, axis = f"{result}/picked", f"{result}/axis"
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), axis))
    graph.node.append(helper.make_node("MatMul", [matrix, rows], [picked]))
    graph.node.append(helper.make_node("Squeeze", [picked, axis], [result]))


def _put_back(graph: onnx.GraphProto, matrix: str, node: onnx.NodeProto) -> None:
    """Add what makes the picked ones of rows (N, C) to others (K, C): (N, C)."""
    rows, _, others = node.input
    [result] = node.output
    before, change, back, moved = (f"{result}/{n}" for n in ("before", "change", "back", "moved"))
    _taken(graph, matrix, rows, before)
    graph.node.append(helper.make_node("Sub", [others, before], [change]))
    graph.node.append(helper.make_node("Transpose", [matrix], [back], perm=[0, 2, 1]))
    _taken(graph, back, change, moved)
    graph.node.append(helper.make_node("Add", [rows, moved], [result]))


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
