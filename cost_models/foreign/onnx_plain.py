"""Plain graphs: a file's nodes in the standard operators that pieces are made of, with all shapes.

Shapes are followed node by node, as a file may hold operators of ONNX Runtime, which are written
as standard ones first (`onnx_rewrites`), and operators that its own operator set does not have yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ...spaces.errors import CostError
from .onnx_kinds import kind_of
from .onnx_rewrites import rewritten

_SMALL = 1024  # elements of a constant whose values are looked at: shapes, axes, scales
_STANDARD = ("", "ai.onnx")


class PlainGraph:
    """Nodes of a graph as standard operators, and what is known of their values.

    Attributes:
        input: name of the input that is no constant.
        nodes: that depend on it, in order.
        shapes: value -> its static shape.
        constants: value that depends on no input -> the stored constants that it is made of.
        makers: constant -> kind of the node that computes it; stored ones are not in it.
        rewritten: names of the nodes that stand for one of another operator, with others.
        kernels: weight -> recipe whose kernels read it, where no standard operator would.

    Args:
        model: `onnx.ModelProto`.

    Raises:
        CostError: it has no input of a static shape; or a node of which nobody knows what shape it
            makes, that needs what it makes, or that holds graphs of its own.
    """

    def __init__(self, model: Any) -> None:
        from onnx import inliner

        if model.functions:
            model = inliner.inline_local_functions(model)
        graph = model.graph
        self.nodes: list[Any] = []
        self.shapes: dict[str, list[int]] = {}
        self.constants: dict[str, set[str]] = {}
        self.makers: dict[str, str] = {}
        self.rewritten: set[str] = set()
        self.kernels: dict[str, str] = {}
        self._types: dict[str, Any] = {}
        self._values: dict[str, Any] = {}  # of small constants
        self._said = {v.name: v.type for v in (*graph.value_info, *graph.output)}
        self._opset = max([o.version for o in model.opset_import if o.domain in _STANDARD] or [1])
        for tensor in graph.initializer:
            self._store(tensor.name, tensor)
        for value in graph.input:
            if value.name not in self.constants:
                self._learn(value.name, value.type)
        self.input = next((v.name for v in graph.input if v.name not in self.constants), "")
        if not self.shapes.get(self.input):
            which = f"the shapes of its input {self.input!r} are not static"
            raise CostError(which if self.input else "it has no input, which must be images")
        for node in _in_order(graph.node):
            self._add(node)

    def is_of(self, name: str, *elements: str) -> bool:
        """Whether the elements of a value are of some types, such as INT8."""
        from onnx import TensorProto

        found = self._types.get(name)
        known = {TensorProto.DataType.Value(element) for element in elements}
        return found is not None and found.tensor_type.elem_type in known

    def _add(self, node: Any) -> None:
        """Follow a node, in standard operators where it is none."""
        from onnx import TensorProto, defs, helper

        # What its graphs read is no input of the node, and how often they run is in no shape.
        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise CostError(
                f"{kind_of(node)} {node.name or node.output[0]!r} holds graphs of its own, whose "
                "cost nobody knows: the file must be without control flow"
            )
        plain = rewritten(node, self.shapes)
        if plain is None:
            self._follow(node, self._opset)
            return
        for name, weight in plain.weights.items():
            self.constants[name], self.kernels[name] = weight.stored, weight.kernel
            self._learn(name, helper.make_tensor_type_proto(TensorProto.FLOAT, weight.shape))
        self.rewritten.update(part.name for part in plain.nodes)
        for part in plain.nodes:
            self._follow(part, defs.onnx_opset_version())

    def _follow(self, node: Any, opset: int) -> None:
        read = [name for name in node.input if name]
        types = self._inferred(node, opset)
        for name in filter(None, node.output):
            told = [known[name] for known in (types, self._said) if name in known]
            if told:
                self._learn(name, next(filter(_is_static, told), told[0]))
        if node.op_type in ("Shape", "Size") and read[0] in self.shapes:
            self._fold(node, opset, set())
        elif all(name in self.constants for name in read):
            made_of = set[str]().union(*(self.constants[name] for name in read))
            self._fold(node, opset, made_of)
        else:
            self.nodes.append(node)

    def _inferred(self, node: Any, opset: int) -> dict[str, Any]:
        """Types of what a node makes, as far as its operator is known.

        Raises:
            CostError: it is not, and the file does not say either.
        """
        from onnx import helper, shape_inference

        schema = _schema(node, opset)
        if schema is None and not all(name in self._said for name in node.output if name):
            raise CostError(
                f"the operator {kind_of(node)} of {node.name or node.output[0]!r} is not known, "
                "and the file does not say what shape it makes"
            )
        if schema is None or not all(name in self._types for name in node.input if name):
            return {}
        try:
            return shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self._types[name] for name in node.input if name},
                {name: self._values[name] for name in node.input if name in self._values},
                opset_imports=[helper.make_opsetid("", max(schema.since_version, opset))],
            )
        except shape_inference.InferenceError:
            return {}  # whoever needs a shape says that it is not known

    def _learn(self, name: str, found: Any) -> None:
        self._types[name] = found
        if _is_static(found):
            self.shapes[name] = [d.dim_value for d in found.tensor_type.shape.dim]

    def _store(self, name: str, tensor: Any) -> None:
        from onnx import TensorProto, helper

        self.constants[name] = {name}
        self._learn(name, helper.make_tensor_type_proto(tensor.data_type, tensor.dims))
        inside = tensor.data_location != TensorProto.EXTERNAL
        if inside and prod(tensor.dims) <= _SMALL:
            self._values[name] = tensor

    def _fold(self, node: Any, opset: int, made_of: set[str]) -> None:
        """Constants that a node computes, with their values where these are small."""
        for name in filter(None, node.output):
            self.constants[name] = made_of
            self.makers[name] = node.op_type
        small = all(prod(self.shapes.get(n, [_SMALL + 1])) <= _SMALL for n in node.output if n)
        known = node.op_type in ("Shape", "Size") or all(n in self._values for n in node.input if n)
        if small and known:
            self._evaluate(node, opset)

    def _evaluate(self, node: Any, opset: int) -> None:
        import numpy as np
        from onnx import numpy_helper
        from onnx.reference import ReferenceEvaluator

        if node.op_type in ("Shape", "Size"):
            shape = self.shapes[node.input[0]]
            given = {node.input[0]: np.broadcast_to(np.float32(0), shape)}
        else:
            given = {n: numpy_helper.to_array(self._values[n]) for n in node.input if n}
        try:
            made = ReferenceEvaluator(node, opsets={"": opset}).run(None, given)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return  # a number that nobody may need
        for name, value in zip(filter(None, node.output), made, strict=True):
            if isinstance(value, np.ndarray | np.generic):
                self._values[name] = numpy_helper.from_array(np.asarray(value), name)


def _is_static(found: Any) -> bool:
    """Whether a type has a shape of numbers alone."""
    tensor = found.tensor_type
    return tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)


def _in_order(nodes: Sequence[Any]) -> list[Any]:
    """Nodes after those that make what they read, otherwise as they are.

    Some tools write them in another order, such as the casts of a conversion to 16 bits at the end.

    Raises:
        CostError: one needs what it makes.
    """
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    done: dict[int, None] = {}
    for i in range(len(nodes)):
        stack = [i]
        while stack:
            waiting = [maker[name] for name in nodes[stack[-1]].input if name in maker]
            waiting = [at for at in waiting if at not in done]
            if not waiting:
                done[stack.pop()] = None
            elif waiting[0] in stack:
                raise CostError(f"{nodes[waiting[0]].name or waiting[0]}: needs what it makes")
            else:
                stack.append(waiting[0])
    return [nodes[i] for i in done]


def _schema(node: Any, opset: int) -> Any:
    """Of an operator set, or of the first later one that has the operator; None for none."""
    from onnx import defs

    if node.domain not in _STANDARD:
        return None
    for version in range(opset, defs.onnx_opset_version() + 1):
        if defs.has(node.op_type, version, ""):
            return defs.get_schema(node.op_type, version, "")
    return None
