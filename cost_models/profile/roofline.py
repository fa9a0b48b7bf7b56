"""Roofline: the fastest that this machine multiplies and moves, and which of it bounds a block.

After Williams, Waterman and Patterson (CACM 52(4), 2009). Rates are measured while the model is:
products as its runtime multiplies them, in each precision that it uses, and streams over as many
bytes as fit into a cache or into none, since small networks never leave the caches (Ilic, Pratas
and Sousa, CAL 13(1), 2014). Operations of a block follow each other, so each has its own bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...spaces.ops import Op
from ..graphs.quantize import apply_recipe

SIDE = 256  # of the matrices that are multiplied, which with their product fit into a cache
STREAMS = (
    2**18,
    2**22,
    2**26,
)  # bytes that are read and written: of a core's cache, of all, of none
MOVED = 4  # bytes of an element that moves between operations
COMPUTE, MEMORY, OVERHEAD = "compute", "memory", "overhead"


@dataclass(frozen=True)
class MachinePeaks:
    """The fastest that was seen.

    Attributes:
        gflops: recipe -> billions of multiplications and additions in a second.
        gb_per_s: bytes that are moved in one go -> 10^9 bytes in a second, fewest bytes first.
    """

    gflops: Mapping[str, float]
    gb_per_s: Mapping[int, float]

    def stream(self, moved: float) -> float:
        """10^9 bytes in a second where so many bytes are moved in one go."""
        return next(
            (rate for size, rate in self.gb_per_s.items() if moved <= size),
            list(self.gb_per_s.values())[-1],
        )


@dataclass(frozen=True)
class Bound:
    """The least time that a block can take.

    Attributes:
        compute_ms: of operations that multiply longer than they move.
        memory_ms: of those that move longer.
    """

    compute_ms: float
    memory_ms: float

    def name(self, ms: float) -> str:
        """What bounds a block that takes so long: overhead, if that is most of its time or all.

        >>> Bound(3.0, 1.0).name(5.0), Bound(1.0, 2.0).name(5.0), Bound(1.0, 1.0).name(5.0)
        ('compute', 'memory', 'overhead')
        """
        if not ms or self.compute_ms + self.memory_ms < ms / 2:
            return OVERHEAD
        return COMPUTE if self.compute_ms >= self.memory_ms else MEMORY


def bound_of(
    ops: Iterable[Op], weight_bytes: int, recipe: str, batch: int, machine: MachinePeaks
) -> Bound:
    """The least time of operations one after another.

    Args:
        ops: for one image.
        weight_bytes: of all their constants, as they are stored.
        recipe: whose kernels multiply.
        batch: images of one run.
        machine: its peaks.
    """
    ops = [op for op in ops if op.kind != "constant"]
    elements = sum(op.weights + op.others for op in ops) or 1
    compute = memory = 0.0
    for op in ops:
        moved = MOVED * batch * (op.reads + op.writes)
        moved += weight_bytes * (op.weights + op.others) / elements
        multiplying = 2 * batch * op.macs / machine.gflops[recipe] / 1e6
        moving = moved / machine.stream(moved) / 1e6
        if multiplying >= moving:
            compute += multiplying
        else:
            memory += moving
    return Bound(compute, memory)


def product(recipe: str) -> bytes:
    """An ONNX graph of one linear layer without bias, stored by a recipe."""
    kind, shape = onnx.TensorProto.FLOAT, [SIDE, SIDE]
    ends = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in ("images", "logits")]
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    constant = onnx.numpy_helper.from_array(weight, "layer.weight")
    node = onnx.helper.make_node("MatMul", ["images", "layer.weight"], ["logits"])
    graph = onnx.helper.make_graph([node], "product", ends[:1], ends[1:], [constant])
    opsets = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return apply_recipe(model, recipe).SerializeToString()


def product_gflops(ms: float) -> float:
    """Rate of `product` in 10^9 multiplications and additions in a second."""
    return 2 * SIDE**3 / ms / 1e6


class Stream:
    """The sum of two vectors into a third, in so many threads (McCalpin's STREAM, "add").

    Args:
        moved: bytes that are read and written.
        threads: that share the work.
    """

    def __init__(self, moved: int, threads: int) -> None:
        count = moved // (3 * MOVED)
        vectors = [np.full(count, fill, np.float32) for fill in (1.0, 2.0, 0.0)]
        ends = np.linspace(0, count, threads + 1).astype(int)
        self._parts = [[v[start:end] for v in vectors] for start, end in pairwise(ends)]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(self, x: Any) -> NDArray[np.float32]:
        """Add once; the input is not looked at."""
        if self._pool is None:
            self._add(self._parts[0])
        else:
            list(self._pool.map(self._add, self._parts))
        return x

    @staticmethod
    def _add(part: Sequence[NDArray[np.float32]]) -> None:
        np.add(part[0], part[1], out=part[2])


def stream_gb_per_s(moved: int, ms: float) -> float:
    """Rate of `Stream` in 10^9 bytes in a second."""
    return moved / ms / 1e6
