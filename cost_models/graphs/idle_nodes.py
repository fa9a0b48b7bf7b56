"""Idle nodes: what exporters write and no runtime needs, and on which some converters fail.

A prefix of no tokens is an empty Slice that a Concat reads, a grid that windows divide is padded by
nothing, and a slice may keep everything.
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

IDLE = ("Pad", "Slice", "Concat", "Identity")  # may do nothing where they keep the shape
# Which input of them must have which value: pads of 1 and -1, or a step of -1, keep it as well.
USUAL = {"Pad": (1, 0), "Slice": (4, 1)}


def without_idle(model: onnx.ModelProto) -> None:
    """Remove empty tensors and nodes that change nothing, in place."""
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = (*inferred.value_info, *inferred.input, *inferred.output)
    shape = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shape |= {name: list(tensor.dims) for name, tensor in constants.items()}
    kept_names = {value.name for value in graph.output}
    same: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Concat":
            full = [name for name in node.input if 0 not in shape[name]]
            if full and len(full) < len(node.input):
                node.input[:] = full
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.output[0] not in kept_names and _is_idle(node, shape, constants):
            same[node.output[0]] = node.input[0]
    read = kept_names | {name for node in graph.node for name in node.input}
    for node in reversed(list(graph.node)):
        if node.output[0] in same or not read & set(node.output):
            graph.node.remove(node)
            read = kept_names | {name for left in graph.node for name in left.input}


def _is_idle(
    node: onnx.NodeProto, shape: dict[str, list[int]], constants: dict[str, onnx.TensorProto]
) -> bool:
    """Whether a node gives what it reads."""
    if node.op_type not in IDLE or (node.op_type == "Concat" and len(node.input) > 1):
        return False
    place, usual = USUAL.get(node.op_type, (len(node.input), 0))
    if len(node.input) > place:
        chosen = constants.get(node.input[place])
        if chosen is None or (numpy_helper.to_array(chosen) != usual).any():
            return False
    return shape.get(node.input[0], []) == shape.get(node.output[0], [0])
