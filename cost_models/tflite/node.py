"""Node: what is read from an operator of ONNX, and how functions that write it look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import helper

from .conversion import Conversion

Node = onnx.NodeProto
Writer = Callable[[Conversion, Node], None]
RELU, RELU6 = 1, 3  # LiteRT's ActivationFunctionType


def attributes(node: Node, **usual: Any) -> dict[str, Any]:
    """Attributes by name: those that are given, and usual ones in place of the others."""
    return usual | {a.name: helper.get_attribute_value(a) for a in node.attribute}


def with_relu(c: Conversion, name: str) -> tuple[str, int]:
    """Name of the value after a ReLU that can be part of the operator, and its code."""
    relu = c.followed(name, ["Relu"])
    return (c.absorb(relu), RELU) if relu is not None else (name, 0)
