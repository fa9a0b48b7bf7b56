"""Stored floats: graphs whose weights are what a recipe rounds them to, in float32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from ..spaces.errors import CostError
from .onnx_reading import attributes
from .stored_weights import StoredWeights


def with_floats(
    model: onnx.ModelProto, weights: Mapping[str, StoredWeights], target: str
) -> onnx.ModelProto:
    """A copy of a graph with the numbers that are stored.

    Args:
        model: a graph in float32.
        weights: how layers are stored, by the name of their weight in the graph.
        target: what the graph is for, as errors call it.

    Raises:
        CostError: a layer that is to multiply integers.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    gemms = (node for node in new.graph.node if node.op_type == "Gemm")
    turned = {node.input[1] for node in gemms if attributes(node).get("transB")}
    for tensor in new.graph.initializer:
        if (stored := weights.get(tensor.name)) is None:
            continue
        if stored.integer_kernel:
            raise CostError(f"{target}: layer {tensor.name!r} is to multiply integers, not floats")
        value = stored.floats.T if tensor.name in turned else stored.floats
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
    return new
