"""Half range: what of a network leaves float16, seen on images.

float16 ends at 65504; what is larger becomes infinite, and answers become no numbers. What is
smaller than half of its smallest number, 2^-24, becomes 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...spaces import Candidate
from ..graphs.modules import locate
from ..runtimes.onnxruntime import outputs_of
from ..units.workload import workload
from .placement import placed_pieces

Array = NDArray[np.float32]
HIGHEST = float(np.finfo(np.float16).max)
LOWEST = 2.0**-25


@dataclass(frozen=True)
class HalfRange:
    """How a constant, or a value that an operator makes, lies in the range of float16.

    Attributes:
        sub_block: path of the module that it belongs to.
        name: of the constant, or the operator.
        is_weight: whether it is a constant.
        highest: largest magnitude.
        lost: share of what is not 0 that becomes 0.
    """

    sub_block: str
    name: str
    is_weight: bool
    highest: float
    lost: float

    @property
    def overflows(self) -> bool:
        """Whether something in it becomes infinite, or is so in float32 already."""
        return not self.highest <= HIGHEST

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        about = {"sub_block": self.sub_block, "name": self.name, "is_weight": self.is_weight}
        return about | {"highest": self.highest, "lost": self.lost, "overflows": self.overflows}


def half_ranges(
    model: onnx.ModelProto, candidate: Candidate, batches: Iterable[Array]
) -> list[HalfRange]:
    """Ranges of all constants and values of a graph, in the order in which they are read or made.

    Args:
        model: a float graph as `graphs.to_onnx` makes it.
        candidate: whose network it is.
        batches: images (B, C, S, S), of the batch that the graph is for.

    Raises:
        CostError: the graph is not that of the candidate.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # which placing changes
    pieces = placed_pieces(copy, workload(candidate).sub_blocks)
    paths = list(locate(candidate))
    places = {name: paths[at] for at, piece in pieces for name in piece.values}
    made = list(_made(model))
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name, _ in made)
    content, seen = probed.SerializeToString(), np.zeros((len(made), 3))
    for images in batches:
        for row, value in zip(seen, outputs_of(content, images), strict=True):
            highest, lost, some = _measured(value)
            row[:] = np.maximum(row[0], highest), row[1] + lost, row[2] + some
    found: list[HalfRange] = []
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            highest, lost, some = _measured(onnx.numpy_helper.to_array(tensor))
            path = next((p for p in paths if tensor.name.startswith(f"{p}.")), "")
            found.append(HalfRange(path, tensor.name, True, highest, lost / max(some, 1)))
    place = paths[0]
    for (name, operator), (highest, lost, some) in zip(made, seen.tolist(), strict=True):
        place = places.get(name, place)
        found.append(HalfRange(place, operator, False, highest, lost / max(some, 1)))
    return found


def _made(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Values in float32 that operators make, each with its operator."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for name in node.output:
            if kinds.get(name) == onnx.TensorProto.FLOAT:
                yield name, node.op_type


def _measured(value: Array) -> tuple[float, int, int]:
    """Largest magnitude, how many become 0, and how many are not 0 before."""
    size = np.abs(value)
    highest = float(size.max(initial=0.0)) if np.isfinite(size).all() else float("inf")
    return highest, int(((size > 0) & (size < LOWEST)).sum()), int((size > 0).sum())
