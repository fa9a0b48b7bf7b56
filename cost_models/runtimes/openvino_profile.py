"""Profile of OpenVINO: what the layers of a compiled model read, write and take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .kernel import Kernel, Value

CONSTANT, FUSED, VIEW = "Const", "Subgraph", "Identity"
# What a fused layer is called after, if it is in it; else it computes elements.
HEAVIEST = ("MatMul", "Softmax", "LayerNormalization", "ReduceMean")


def read_layers(compiled: Any, executed: set[str], operators: Mapping[str, str]) -> list[Kernel]:
    """Layers of a compiled model in the order of execution; those that take no time are views.

    Args:
        compiled: `openvino.CompiledModel`.
        executed: names of layers that are timed.
        operators: name of a node of the file -> its operator, to tell what was fused.
    """
    made_of: dict[str, str] = {}  # what is made of constants alone -> the first of them
    kernels: list[Kernel] = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        name, about = node.get_friendly_name(), node.get_rt_info()
        kind = str(about["layerType"].astype(str))
        reads = [value.get_node().get_friendly_name() for value in node.input_values()]
        if kind == CONSTANT or (reads and all(x in made_of for x in reads)):
            made_of[name] = made_of[reads[0]] if reads else name
            continue
        if kind in ("Input", "Output"):
            continue
        if name not in executed:
            kind = VIEW
        elif kind == FUSED:
            names = str(about["originalLayersNames"].astype(str)).split(",")
            inside = {operators.get(x, "") for x in names}
            kind = next((operator for operator in HEAVIEST if operator in inside), kind)
        kernels.append(
            Kernel(
                name,
                kind,
                tuple(x for x in reads if x not in made_of),
                tuple(made_of[x] for x in reads if x in made_of),
                tuple(
                    Value(name if i == 0 else f"{name}.{i}", tuple(shape), size)
                    for i, (shape, size) in enumerate(map(_size, node.outputs()))
                ),
            )
        )
    return kernels


def _size(output: Any) -> tuple[tuple[int, ...], int]:
    """Shape and bytes of what a layer makes."""
    shape, count = tuple(int(n) for n in output.get_shape()), 1
    for side in shape:
        count *= side
    return shape, -(-count * output.get_element_type().bitwidth // 8)
