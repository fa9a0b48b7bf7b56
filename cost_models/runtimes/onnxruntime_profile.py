"""Profile of ONNX Runtime: what the kernels of a session read, write and take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError
from ..standalone.onnxruntime_graph import KERNEL
from .kernel import Kernel, Value

if TYPE_CHECKING:
    import onnx

RUN = "model_run"  # name of the event of a run
BYTES = {  # of an element; 4 of any other
    **dict.fromkeys(("int64", "uint64", "double"), 8),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
}


def read_profile(
    events: Sequence[Mapping[str, Any]], graph: onnx.GraphProto
) -> tuple[list[Kernel], NDArray[np.float64]]:
    """Kernels of a profile in order of execution, and (runs, kernels) ms of each.

    Args:
        events: of the profile.
        graph: that is executed, after all optimization.

    Raises:
        CostError: runs differ in their kernels.
    """
    timed = [event for event in events if event.get("name", "").endswith(KERNEL)]
    runs = sum(event.get("name") == RUN for event in events)
    count = len(timed) // max(runs, 1)
    names = [event["name"] for event in timed]
    if not count or names != names[:count] * runs:
        raise CostError(f"the profile of ONNX Runtime has {len(timed)} kernels in {runs} runs")
    nodes = {node.name: node for node in graph.node}
    constants = {tensor.name for tensor in graph.initializer}
    ms = np.array([event["dur"] for event in timed], float).reshape(runs, count) / 1e3
    return [_kernel(event, nodes, constants) for event in timed[:count]], ms


def read_fallbacks(events: Sequence[Mapping[str, Any]], provider: str) -> dict[str, int]:
    """Kernels of a profile of one run that another provider executes, by kind."""
    timed = [e["args"] for e in events if e.get("name", "").endswith(KERNEL)]
    return dict(Counter(a["op_name"] for a in timed if a.get("provider", provider) != provider))


def _kernel(
    event: Mapping[str, Any], nodes: Mapping[str, onnx.NodeProto], constants: set[str]
) -> Kernel:
    name, about = event["name"].removesuffix(KERNEL), event["args"]
    node = nodes.get(name)
    reads = [x for x in node.input if x] if node else []
    made = [x for x in node.output if x] if node else []
    shapes = [next(iter(shape.items())) for shape in about["output_type_shape"]]
    return Kernel(
        name,
        about["op_name"],
        tuple(x for x in reads if x not in constants),
        tuple(x for x in reads if x in constants),
        tuple(
            Value(x, tuple(shape), int(np.prod(shape)) * BYTES.get(kind, 4))
            for x, (kind, shape) in zip(made, shapes, strict=False)
        ),
    )
