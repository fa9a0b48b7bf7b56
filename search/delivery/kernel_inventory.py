"""Inventory: operators of a graph as stored and as executed, and which runtimes lack some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx

from ...cost_models.runtimes import find_runtime
from .converter_operators import TARGETS

BLOCKS = "MatMulNBits"  # 4-bit blocks, unpacked inside float or integer kernels
INTEGER_LEVEL = 4  # its `accuracy_level` for integer ones
LINEAR = ("MatMul", "Gemm", "Conv", "MatMulInteger", "ConvInteger", BLOCKS)
# Between a stored weight and its use.
PASSED = ("DequantizeLinear", "Cast", "Mul", "Transpose", "Reshape", "Gather")
TYPES = {"FLOAT": "float32", "FLOAT16": "float16"}


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer or dense convolution.

    Attributes:
        name: of its module.
        operator: by which the file computes it.
        weights: type in which they are stored.
        computes: type that its kernel multiplies, "float32" or "int8".
    """

    name: str
    operator: str
    weights: str
    computes: str


def _targets() -> dict[str, dict[str, str]]:
    return {t.name: {"version": t.version, "source": t.source} for t in TARGETS}


@dataclass(frozen=True)
class Inventory:
    """Operators, kernels and layers of a graph.

    Attributes:
        stored: operator -> number in the file.
        executed: kernel -> number of executions after the runtime's own optimization.
        linears: every layer with constant weights.
        unsupported: other runtime -> operators of the file that it does not convert.
        fallbacks: layers stored for integer kernels that are executed by others.
        targets: other runtime -> version and source of its list of operators.
    """

    stored: dict[str, int]
    executed: dict[str, int]
    linears: list[Linear]
    unsupported: dict[str, list[str]]
    fallbacks: int = 0
    targets: dict[str, dict[str, str]] = field(default_factory=_targets)

    @property
    def nodes(self) -> int:
        """Number of operators in the file; 0 where it is not known."""
        return sum(self.stored.values())

    @property
    def fused(self) -> list[str]:
        """Kernels that the runtime made of several operators of the file."""
        return sorted(self.executed.keys() - self.stored.keys())

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"fused": self.fused}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Inventory:
        """Inverse of `to_dict`."""
        linears = [Linear(**layer) for layer in data["linears"]]
        names = ("stored", "executed", "unsupported", "fallbacks", "targets")
        return cls(linears=linears, **{name: data[name] for name in names})


def inventory_of(content: bytes, executed: Mapping[str, int], runtime: str) -> Inventory:
    """The inventory of an ONNX file.

    Args:
        content: of the file.
        executed: kernels of the compiled model, as `Compiled.kernels` counts them.
        runtime: that compiled it.
    """
    graph = onnx.load_model_from_string(content).graph
    stored = Counter(node.op_type for node in graph.node)
    layers = list(linears(graph))
    missing = fallbacks(layers, executed, runtime)
    return Inventory(dict(stored), dict(executed), layers, unsupported(graph), missing)


def fallbacks(layers: Sequence[Linear], executed: Mapping[str, int], runtime: str) -> int:
    """Number of layers that are stored for integer kernels and executed by others."""
    blocks = [layer.computes for layer in layers if layer.operator == BLOCKS].count("float32")
    wanted = [layer.computes for layer in layers].count("int8")
    actual = find_runtime(runtime).integers(executed) + executed.get(BLOCKS, 0) - blocks
    return max(0, wanted - actual)


def unsupported(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """Other runtime -> operators of a graph that it has no converter for."""
    used = {f"{n.domain}:{n.op_type}".removeprefix(":") for n in graph.node}
    return {target.name: sorted(used - target.operators) for target in TARGETS}


def linears(graph: onnx.GraphProto) -> Iterator[Linear]:
    """Layers with constant weights, and the precision that the file requests."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type not in LINEAR:
            continue
        weight = node.input[1]
        while weight in made and made[weight].op_type in PASSED:
            weight = made[weight].input[0]
        if weight not in constants:
            continue
        kind = onnx.TensorProto.DataType.Name(constants[weight].data_type)
        kind = "int4" if node.op_type == BLOCKS else TYPES.get(kind, kind.lower())
        computes = "int8" if _multiplies_integers(node, weight, made) else "float32"
        name = weight.partition(":")[0].rpartition(".")[0]
        yield Linear(name, node.op_type, kind, computes)


def _multiplies_integers(
    node: onnx.NodeProto, weight: str, made: Mapping[str, onnx.NodeProto]
) -> bool:
    """Whether the file requests an integer kernel."""
    if node.op_type == BLOCKS:
        return any(a.name == "accuracy_level" and a.i == INTEGER_LEVEL for a in node.attribute)
    entering = made.get(node.input[0])
    quantized = entering is not None and entering.op_type == "DequantizeLinear"
    return node.op_type.endswith("Integer") or (quantized and weight != node.input[1])
