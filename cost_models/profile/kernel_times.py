"""Kernel times: how long each kernel of a model takes, so that together they take what it takes.

A runtime's profiler adds some microseconds to every kernel, which is more than small ones take. How
much at least, a row of kernels that do nothing tells, timed with the profiler and without; and a
row of one tells what a call of the runtime takes by itself. Other kernels wait longer for what the
profiler took out of the caches: where they take more than the whole model does without it, up to as
much again is taken off all of them alike, and what is still left is divided out as the speed of the
machine, which was lower while they were profiled.

All is timed in turn, so that whatever slows the machine slows all of it. Of whole runs the faster
half counts, as one that was interrupted finds its caches empty. A profile knows whole microseconds
of the wall clock only: runs in which the system gave the core to others are left out, and of each
kernel the middle half of the rest counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ..device import Device
from ..runtimes import open_runtime
from ..runtimes.kernel import Kernel, Watched
from ..standalone.runner import CLOCKS
from ..standalone.timing import Stopwatch, stopwatch

CHAIN, ELEMENTS = 64, 64  # kernels that do nothing, on so many numbers
WARM, COUNTED = 2, 3  # runs of one round: those that only warm up, and those that count
LEAST, MOST = 11, 60  # rounds
SAMPLE_MS = 1.0  # of small graphs, in one round
BUDGET_S = 3.0
INTERRUPTED = 1.1  # wall time over that of the thread from which on a run was interrupted
ENOUGH = 8  # runs that were not; with fewer, the median of all counts, of each kernel its own

Array = NDArray[np.float64]


@dataclass(frozen=True)
class KernelTimes:
    """Time of a model and of its parts, in ms of one run.

    Attributes:
        latency_ms: of the model, without a profiler.
        call_ms: of a call of the runtime, with nothing to do.
        kernels: in order of execution, each with its time.
        profiler_ms: that the profiler added to each kernel, which is taken off.
        slowed: factor by which they were slower than the model all the same, which is divided out.
        beside: what was timed in turn with it, by name.
    """

    latency_ms: float
    call_ms: float
    kernels: list[tuple[Kernel, float]]
    profiler_ms: float
    slowed: float
    beside: Mapping[str, float]

    @property
    def accounted(self) -> float:
        """Share of the latency that call and kernels take, at most 1."""
        return (self.call_ms + sum(ms for _, ms in self.kernels)) / self.latency_ms


def time_kernels(
    device: Device, content: bytes, beside: Mapping[str, Stopwatch], budget_s: float = BUDGET_S
) -> KernelTimes:
    """Time a model and its kernels on this machine.

    Args:
        device: whose runtime runs it.
        content: of its file.
        beside: what else to time in turn with it.
        budget_s: wall time after which no further round begins.

    Raises:
        CostError: the runtime refuses the model, or does not tell how long kernels take.
        MissingRuntimeError: the runtime is not installed here.
    """
    runtime, clock, rng = open_runtime(device), CLOCKS[device.clock], np.random.default_rng(0)
    one, row = chain(1), chain(CHAIN)
    watched, idle = runtime.watched(content), runtime.watched(row)
    plain = runtime.compile(content)
    x = rng.standard_normal(plain.input_shape).astype(np.float32)
    nothing = np.zeros((1, ELEMENTS), np.float32)
    watches = {
        **{f"beside {name}": watch for name, watch in beside.items()},
        "one": stopwatch(runtime.compile(one), nothing, clock),
        "row": stopwatch(runtime.compile(row), nothing, clock),
        "": stopwatch(plain, x, clock),
    }
    loops = {name: _loops(watch) for name, watch in watches.items()}
    rounds: list[list[float]] = []
    seen, seen_idle = list[bool](), list[bool]()  # of each run, whether it counts
    end = time.perf_counter() + budget_s
    while len(rounds) < LEAST or (len(rounds) < MOST and time.perf_counter() < end):
        rounds.append([watch(1, loops[name], WARM)[0] for name, watch in watches.items()])
        for graph, given, counts in ((watched, x, seen), (idle, nothing, seen_idle)):
            for _ in range(WARM):
                graph.run(given)
            counts += [False] * WARM + [_uninterrupted(graph, given) for _ in range(COUNTED)]
    ms = dict(zip(watches, _faster_half(np.array(rounds)).tolist(), strict=True))
    (idlers, idle_ms), (kernels, seen_ms) = _told(idle, seen_idle), _told(watched, seen)
    kernel_alone = max(ms["row"] - ms["one"], 0.0) / (CHAIN - 1)
    call_ms = min(max(ms["one"] - kernel_alone, 0.0), ms[""])
    # A runtime that makes one kernel of all has a profiler that adds next to nothing.
    added = max(float(idle_ms.mean()) - kernel_alone, 0.0) if len(idlers) == CHAIN else 0.0
    left_ms = ms[""] - call_ms
    added = min(max(added, taken_off(seen_ms, left_ms)), 2 * added)
    own_ms = np.maximum(seen_ms - added, 0.0)
    slowed = max(1.0, float(own_ms.sum()) / left_ms) if left_ms > 0 else 1.0
    return KernelTimes(
        ms[""],
        call_ms,
        list(zip(kernels, (own_ms / slowed).tolist(), strict=True)),
        added,
        slowed,
        {name: ms[f"beside {name}"] for name in beside},
    )


def taken_off(times: Array, total: float) -> float:
    """What is taken off each time so that they add up to a total; 0 where they do not reach it.

    No time falls below 0.

    >>> taken_off(np.array([1.0, 5.0, 6.0]), 8.0), taken_off(np.array([1.0, 2.0]), 8.0)
    (1.5, 0.0)
    """
    descending = np.sort(times)[::-1]
    # Where the largest k are left, each has lost what makes these k add up to the total.
    offers = (np.cumsum(descending) - total) / np.arange(1, len(times) + 1)
    return max(0.0, float(offers.max()))


def chain(count: int) -> bytes:
    """An ONNX graph of kernels in a row that do next to nothing."""
    kind, shape = onnx.TensorProto.FLOAT, [1, ELEMENTS]
    names = ["images", *(f"v{i}" for i in range(1, count)), "logits"]
    nodes = [
        onnx.helper.make_node("Neg", [names[i]], [names[i + 1]], name=f"n{i}") for i in range(count)
    ]
    ends = [onnx.helper.make_tensor_value_info(x, kind, shape) for x in ("images", "logits")]
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 20)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def _loops(watch: Stopwatch) -> int:
    """Runs of one sample: as many as take about a millisecond."""
    return max(1, round(SAMPLE_MS / max(min(watch(3, 1, 1)), 1e-3)))


def _uninterrupted(watched: Watched, given: NDArray[np.float32]) -> bool:
    """Run once, and tell whether nothing else ran on the core meanwhile."""
    wall, own = time.perf_counter(), time.thread_time()
    watched.run(given)
    return time.perf_counter() - wall < INTERRUPTED * (time.thread_time() - own)


def _told(watched: Watched, counts: Sequence[bool]) -> tuple[list[Kernel], Array]:
    """Kernels, and ms of each in the runs that count."""
    kernels, runs = watched.kernels()
    if sum(counts) >= ENOUGH:
        return kernels, _middle_half(runs[np.array(counts)])
    warm = np.arange(len(runs)) % (WARM + COUNTED) >= WARM
    return kernels, np.median(runs[warm], axis=0)


def _faster_half(samples: Array) -> Array:
    return np.sort(samples, axis=0)[: -(-len(samples) // 2)].mean(0)


def _middle_half(samples: Array) -> Array:
    least = len(samples) // 4
    return np.sort(samples, axis=0)[least : len(samples) - least].mean(0)
