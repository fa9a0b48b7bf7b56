"""Linear layers: find the constant-weight layers of an ONNX graph and replace their nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

CONTRIB = "com.microsoft"
INT4_OPSET = 21  # the first with 4-bit tensors
LINEAR = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class OnnxLayer:
    """A linear layer or dense convolution with constant weights.

    Attributes:
        node: the operator.
        weight: (inputs, outputs) of a linear layer, (outputs, inputs, k, k) of a convolution.
        bias: shift of a Gemm or Conv; of a MatMul it is a separate Add and stays so.
        module: path of the torch module that it came from.
    """

    node: onnx.NodeProto
    weight: NDArray[np.float32]
    bias: str
    module: str

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return self.node.op_type == "Conv"

    @property
    def is_router(self) -> bool:
        """Whether it scores the tokens among which a block chooses."""
        return bool({"router", "mixer_router"} & {*self.module.split(".")})

    @property
    def source(self) -> str:
        """Name of the activation that enters."""
        return self.node.input[0]

    @property
    def result(self) -> str:
        """Name of the activation that leaves."""
        return self.node.output[0]


class OnnxGraph:
    """A graph that is being rewritten: new nodes in order, constants by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.constants = {t.name: t for t in self.model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()
        self._apart: set[str] = set()
        self._opset = 0

    def layers(self) -> Iterator[OnnxLayer]:
        """Every layer that a recipe may store in another way."""
        for node in self.model.graph.node:
            if (layer := self.layer(node)) is not None:
                yield layer

    def layer(self, node: onnx.NodeProto) -> OnnxLayer | None:
        """The node as a layer; None for anything else, such as a depthwise convolution."""
        if node.op_type not in LINEAR or node.input[1] not in self.constants:
            return None
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == "Conv" and "group" in attributes and attributes["group"].i != 1:
            return None
        weight = numpy_helper.to_array(self.constants[node.input[1]])
        if weight.ndim < 2 or weight.dtype != np.float32:
            return None
        if is_transposed(node):
            weight = weight.T
        module = node.input[1].rpartition(".")[0]
        return OnnxLayer(node, weight, node.input[2] if len(node.input) > 2 else "", module)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant once; its name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def packed(self, name: str, value: NDArray[np.int8]) -> str:
        """Add a constant of signed 4-bit integers, two a byte, the first in the low half."""
        self.needs(INT4_OPSET)
        flat = value.reshape(-1).astype(np.uint8) & 15
        flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
        raw = (flat[::2] | flat[1::2] << 4).tobytes()
        self.constants[name] = helper.make_tensor(
            name, onnx.TensorProto.INT4, value.shape, raw, raw=True
        )
        return name

    def needs(self, opset: int) -> None:
        """Raise the opset to at least this."""
        self._opset = max(self._opset, opset)

    def add(self, kind: str, inputs: list[str], name: str, domain: str = "", **attrs: Any) -> str:
        """Add a node with one output; the output's name."""
        return self.add_many(kind, inputs, [name], domain, **attrs)[0]

    def add_many(
        self, kind: str, inputs: list[str], names: list[str], domain: str = "", **attrs: Any
    ) -> list[str]:
        """Add a node unless it is there already, so that one input is quantized once."""
        if names[0] not in self._made:
            self._made.add(names[0])
            self.nodes.append(
                helper.make_node(kind, inputs, names, f"{names[0]}:{kind}", domain=domain, **attrs)
            )
        return names

    def keep_apart(self, product: str) -> None:
        """Keep a product from being merged with the bias that follows it.

        ONNX Runtime would make a float Gemm of both and lose the integer kernel; a bias with
        three axes does not fit its pattern.
        """
        self._apart.add(product)

    def finish(self) -> onnx.ModelProto:
        """The rewritten model, without constants that nothing reads any more."""
        graph = self.model.graph
        self.nodes = [self._separated(node) for node in self.nodes]
        used = {name for node in self.nodes for name in node.input}
        del graph.node[:]
        graph.node.extend(self.nodes)
        del graph.initializer[:]
        graph.initializer.extend(t for name, t in self.constants.items() if name in used)
        domains = {node.domain for node in self.nodes}
        if CONTRIB in domains and all(o.domain != CONTRIB for o in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
        for entry in self.model.opset_import:
            if entry.domain == "":
                entry.version = max(entry.version, self._opset)
        return self.model

    def _separated(self, node: onnx.NodeProto) -> onnx.NodeProto:
        if node.op_type != "Add" or not self._apart & set(node.input):
            return node
        inputs = [
            self.constant(f"{name}:row", numpy_helper.to_array(self.constants[name])[None, None])
            if name in self.constants
            else name
            for name in node.input
        ]
        return helper.make_node("Add", inputs, node.output, node.name)


def is_transposed(node: onnx.NodeProto) -> bool:
    """Whether a linear layer has its weight as (outputs, inputs)."""
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
