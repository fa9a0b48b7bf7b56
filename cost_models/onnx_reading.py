"""Reading: an ONNX graph as converters see it, which write it operator by operator."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import onnx
from numpy.typing import NDArray
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

    def known(self, node: onnx.NodeProto, index: int) -> NDArray[Any] | None:
        """A constant input; None where the node has no such input.

        Raises:
            CostError: it is computed.
        """
        name = node.input[index] if index < len(node.input) else ""
        if not name:
            return None
        if name not in self.constants:
            raise self.refusal(node, f"whose input {index} is computed has no conversion")
        return self.constants[name]

    def window(self, node: onnx.NodeProto, **usual: Any) -> dict[str, Any]:
        """Attributes of an operator that goes over images square by square, with usual others.

        Raises:
            CostError: its padding follows from its sizes.
        """
        common = {"auto_pad": b"NOTSET", "strides": [1, 1], "pads": [0] * 4}
        told = attributes(node, **common, dilations=[1, 1], **usual)
        if told["auto_pad"] != b"NOTSET":
            raise self.refusal(node, "with padding by itself has no conversion")
        return told

    def biased(self, node: onnx.NodeProto) -> tuple[NDArray[Any] | None, str]:
        """Bias (outputs,) of a product with a weight (inputs, outputs), and what it makes in all.

        A bias is an addition that follows, which then is part of the product.
        """
        out = node.output[0]
        add = self.followed(out, ["Add"])
        if add is not None:
            (other,) = (name for name in add.input if name != out)
            added, length = self.constants.get(other), self.constants[node.input[1]].shape[1]
            if added is not None and added.size == length and added.shape[-1:] == (length,):
                return added.reshape(-1), self.absorb(add)
        return None, out

    def gemm(self, node: onnx.NodeProto) -> tuple[bool, NDArray[Any] | None]:
        """Whether the weight of a Gemm lies transposed, and its bias (outputs,).

        Raises:
            CostError: it is not a linear layer.
        """
        told = attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
        weight, bias = node.input[1], self.known(node, 2)
        factors = told["alpha"], told["beta"], told["transA"]
        if factors != (1.0, 1.0, 0) or weight not in self.constants:
            raise self.refusal(node, "with factors or without constants has no conversion")
        return bool(told["transB"]), None if bias is None else bias.reshape(-1)

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


R = TypeVar("R", bound=OnnxReading)


def write_operators(
    conversion: R, operators: Mapping[str, Callable[[R, onnx.NodeProto], None]]
) -> R:
    """The same conversion, in which every operator is written.

    Args:
        conversion: of a graph, with nothing written yet.
        operators: what writes them, by their kind.

    Raises:
        CostError: an operator that has no conversion, by name.
    """
    for node in conversion.nodes:
        if conversion.is_absorbed(node):
            continue
        if node.op_type not in operators:
            raise conversion.refusal(node, "has no conversion")
        operators[node.op_type](conversion, node)
    return conversion


def attributes(node: onnx.NodeProto, **usual: Any) -> dict[str, Any]:
    """Attributes by name: those that are given, and usual ones in place of the others."""
    return usual | {a.name: helper.get_attribute_value(a) for a in node.attribute}


def told_of(about: Mapping[str, str] | None) -> dict[str, Any]:
    """What a file is to say of itself, by name, which comes as JSON."""
    return {name: json.loads(text) for name, text in (about or {}).items()}


def runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Places one after the other, as first and behind the last of those that follow each other.

    >>> runs([4, 5, 0])
    [(4, 6), (0, 1)]
    """
    found: list[tuple[int, int]] = []
    for place in places:
        if found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found
