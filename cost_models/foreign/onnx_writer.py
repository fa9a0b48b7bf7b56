"""Writer: standard ONNX nodes that take the place of another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Shapes = Mapping[str, list[int]]
WINDOW = ("kernel_shape", "strides", "pads", "auto_pad", "dilations", "group", "ceil_mode")


class Weight(NamedTuple):
    """A weight that a node stores in a form of its own.

    Attributes:
        shape: as a MatMul reads it.
        stored: names of the constants that hold it.
        kernel: recipe whose kernel reads it; "" for none that is known.
    """

    shape: tuple[int, int]
    stored: set[str]
    kernel: str


@dataclass
class Rewritten:
    """Standard nodes in place of another one.

    Attributes:
        nodes: in order.
        weights: by the names that they read.
    """

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)


class UnknownFormError(Exception):
    """A form of an operator that is not written here."""


class Writer:
    """Writes the standard nodes of one node."""

    def __init__(self, node: Any, shapes: Shapes) -> None:
        self.node, self.written, self._shapes = node, Rewritten(), shapes
        self.outputs: list[str] = list(node.output)

    def __getitem__(self, index: int) -> str:
        """Name of an input; "" where it is left out."""
        return str(self.node.input[index]) if index < len(self.node.input) else ""

    def number(self, name: str, default: float = 0) -> Any:
        """An attribute."""
        from onnx import helper

        found = next((a for a in self.node.attribute if a.name == name), None)
        return default if found is None else helper.get_attribute_value(found)

    def kept(self, *names: str) -> dict[str, Any]:
        """Attributes as they are, of these names."""
        from onnx import helper

        return {
            a.name: helper.get_attribute_value(a) for a in self.node.attribute if a.name in names
        }

    def refuse(self, index: int) -> None:
        """Refuse a node with an input that holds what earlier runs left.

        Raises:
            UnknownFormError: it is there.
        """
        if self[index]:
            raise UnknownFormError

    def whole(self, numbers: Sequence[int]) -> str:
        """A constant of whole numbers."""
        return self.add("Constant", [], value_ints=list(numbers))

    def shares(self, value: str, axis: int, sizes: Sequence[int]) -> list[str]:
        """Shares of these sizes along an axis."""
        first = self.add("Split", [value, self.whole(sizes)], axis=axis)
        others = [f"{first}/{i}" for i in range(1, len(sizes))]
        self.written.nodes[-1].output.extend(others)
        return [first, *others]

    def shape(self, name: str) -> list[int]:
        """Shape of an input.

        Raises:
            UnknownFormError: nobody knows it.
        """
        if name not in self._shapes:
            raise UnknownFormError
        return self._shapes[name]

    def add(self, kind: str, read: Sequence[str], out: str = "", **attributes: Any) -> str:
        """A node with one output, and the name of that."""
        from onnx import helper

        out = out or f"{self.outputs[0]}/{len(self.written.nodes)}"
        read = list(read)
        while read and not read[-1]:
            read.pop()
        self.written.nodes.append(helper.make_node(kind, read, [out], out, **attributes))
        return out

    def last(self, _: str) -> None:
        """Give what the last node makes the name of what this one makes."""
        self.written.nodes[-1].output[0] = self.outputs[0]

    def biased(self, value: str, bias: str) -> str:
        """A sum with a bias, where there is one."""
        return self.add("Add", [value, bias]) if bias else value

    def activated(self, value: str) -> str:
        """Apply the activation that is fused into the node."""
        kind = self.number("activation", 0) or b""
        name = kind.decode()
        if name in ("", "NONE"):
            return value
        return self.add({"SiLU": "Sigmoid", "Silu": "Sigmoid"}.get(name, name), [value])

    def floats(self, value: str, scale: str, zero: str) -> str:
        """Floats of integers."""
        return self.add("DequantizeLinear", [value, scale, zero])

    def integers(self, value: str, scale: str, zero: str, out: str = "") -> str:
        """Integers of floats."""
        return self.add("QuantizeLinear", [value, scale, zero], out)

    def turned(self, value: str, *order: int, out: str = "") -> str:
        """Transpose."""
        return self.add("Transpose", [value], out, perm=order)

    def to_last(self, value: str) -> str:
        """Grid (B, C, H, W) -> (B, H, W, C)."""
        return self.turned(value, 0, 2, 3, 1)

    def to_first(self, value: str) -> str:
        """Grid (B, H, W, C) -> (B, C, H, W)."""
        return self.turned(value, 0, 3, 1, 2)

    def scaled(self, product: str, scales: Sequence[str]) -> str:
        """Floats of an integer product."""
        from onnx import TensorProto

        real = self.add("Cast", [product], to=TensorProto.FLOAT)
        return self.add("Mul", [real, self.add("Mul", scales)])

    def as_standard(self) -> None:
        """The same operator in ONNX's own domain."""
        self.add(self.node.op_type, list(self.node.input), self.outputs[0], **self.kept("axis"))


Rewrite = Callable[[Writer], None]
