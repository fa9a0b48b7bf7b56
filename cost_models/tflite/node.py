"""Node: what is read from an operator of ONNX, and how functions that write it look."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from .conversion import Conversion

Node = onnx.NodeProto
Writer = Callable[[Conversion, Node], None]
RELU, RELU6 = 1, 3  # LiteRT's ActivationFunctionType


def with_relu(c: Conversion, name: str) -> tuple[str, int]:
    """Name of the value after a ReLU that can be part of the operator, and its code."""
    relu = c.followed(name, ["Relu"])
    return (c.absorb(relu), RELU) if relu is not None else (name, 0)
