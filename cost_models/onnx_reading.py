"""Reading: an ONNX graph as converters see it, which write it operator by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import helper, numpy_helper

from ..spaces.errors import CostError
from .stored_weights import StoredWeights


class OnnxReading:
    """What is known of a graph while it is converted.

    Attributes:
        target: of the conversion, as errors call it.
        constants: by name.
        nodes: in order.
        makers: value -> the node that makes it.
        uses: value -> number of nodes that read it, the result once more.
    """

    target: str

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, StoredWeights]) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self._shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
        self._weights = weights
        self.nodes = list(model.graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self._readers = {name: node for node in self.nodes for name in node.input}
        self.uses = Counter(name for node in self.nodes for name in node.input)
        (self._input,), (self._output,) = model.graph.input, model.graph.output
        self.uses[self._output.name] += 1
        self._absorbed: set[str] = set()

    def refusal(self, node: onnx.NodeProto, why: str) -> CostError:
        """Error that names an operator, and a constant of it by which its place is known."""
        place = next((f" beside {name!r}" for name in node.input if name in self.constants), "")
        return CostError(f"{self.target}: operator {node.op_type}{place} {why}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value."""
        if name in self.constants:
            return self.constants[name].shape
        return tuple(self._shapes[name])

    def absorb(self, node: onnx.NodeProto) -> str:
        """A node is part of the operator before it; name of what it makes."""
        self._absorbed.add(node.output[0])
        return node.output[0]

    def is_absorbed(self, node: onnx.NodeProto) -> bool:
        """Whether a node is part of an operator that is written already."""
        return node.output[0] in self._absorbed

    def followed(self, name: str, kinds: Sequence[str]) -> onnx.NodeProto | None:
        """The only reader of a value, if it is of some kind."""
        if self.uses[name] != 1:
            return None
        node = self._readers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def stored(self, name: str) -> StoredWeights | None:
        """How a layer is stored; None where nothing says."""
        return self._weights.get(name)


def attributes(node: onnx.NodeProto, **usual: Any) -> dict[str, Any]:
    """Attributes by name: those that are given, and usual ones in place of the others."""
    return usual | {a.name: helper.get_attribute_value(a) for a in node.attribute}
