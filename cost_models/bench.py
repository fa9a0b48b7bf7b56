"""Bench: sub-blocks and networks, built, compiled and timed on a device against an anchor.

Every session times a fixed sub-block too, the anchor; numbers of different sessions are
compared through it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from ..spaces import Block, Candidate, Place, Policy
from ..spaces.errors import CostError
from .build import build, network
from .device import Device
from .graphs import to_onnx
from .measure import Session, measure_session
from .memory import process_growth_mb
from .precision import Book
from .recipes import apply_recipe, apply_recipes
from .runtimes import open_runtime
from .runtimes.onnxruntime import SCRATCH
from .table import Row
from .units import Unit
from .workload import SubBlock

ANCHOR = SubBlock(
    "mlp",
    Place(Block(mlp_hidden=768), 192, (14, 14), 0, 196, 196),
    *(Policy(), "layer", "mlp"),
)


@dataclass(frozen=True)
class Graph:
    """A graph that is ready to be timed.

    Attributes:
        kind: of its row in a table.
        key: of its row in a table.
        compiled: what runs.
        x: its input.
        graph_bytes: size of its file.
    """

    kind: str
    key: str
    compiled: Any
    x: NDArray[np.float32]
    graph_bytes: int


class Bench:
    """Compiles and times on one device.

    Args:
        device: where to.
        seed: of inputs and orders.

    Raises:
        MissingRuntimeError: the device's runtime is not installed here.
    """

    def __init__(self, device: Device, seed: int = 0) -> None:
        torch.set_num_threads(device.threads)
        if device.affinity and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, device.affinity)
        self.device, self.seed = device, seed
        self._runtime = open_runtime(device)
        self._rng = np.random.default_rng(seed)
        self._run = f"{int(time.time()):x}-{os.getpid():x}"
        self._sessions = 0
        self._anchor = self.unit(Unit(ANCHOR, "float"))

    def unit(self, unit: Unit) -> Graph:
        """Build and compile a sub-block."""
        module, shape = build(unit.block, self.device.batch)
        if self._runtime.takes == "module":
            return self._ready("unit", unit.key, module, shape, 0)
        model = apply_recipe(_exported(unit.block, self.device.batch), unit.recipe)
        return self._ready("unit", unit.key, model, shape, len(model.SerializeToString()))

    def network(self, candidate: Candidate, recipes: Book, kind: str = "model") -> Graph:
        """Build and compile a whole network in the candidate's own precision."""
        built, shape = network(candidate), _input_shape(candidate, self.device.batch)
        if self._runtime.takes == "module":
            return self._ready(kind, candidate.to_json(), built, shape, 0)
        model = apply_recipes(to_onnx(built, shape), candidate, recipes)
        size = len(model.SerializeToString())
        return self._ready(kind, candidate.to_json(), model, shape, size)

    def time(self, graphs: Sequence[Graph], rounds: int = 12) -> tuple[list[Row], Session]:
        """Time graphs in one session: a row for each, and the session with its drift."""
        everything = [*graphs, self._anchor]
        self._sessions += 1
        session = measure_session(
            [graph.compiled for graph in everything],
            [graph.x for graph in everything],
            rounds,
            seed=self.seed + self._sessions,
            clock=clock_of(self.device),
        )
        *timings, anchor = session.timings
        rows = [
            Row(
                *(graph.kind, graph.key, t.median_ms, t.p10_ms, t.p90_ms, t.n, graph.graph_bytes),
                stable=t.stable,
                drift=session.drift,
                anchor_ms=anchor.median_ms,
                session=f"{self._run}-{self._sessions}",
                unix_time=int(time.time()),
            )
            for graph, t in zip(graphs, timings, strict=True)
        ]
        return rows, session

    def growth_mb(self, candidate: Candidate, recipes: Book) -> float:
        """Peak growth of a fresh process that runs the candidate's network."""
        shape = _input_shape(candidate, self.device.batch)
        model = apply_recipes(to_onnx(network(candidate), shape), candidate, recipes)
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            return process_growth_mb(self.device.to_dict(), str(path))

    def _ready(
        self, kind: str, key: str, model: Any, shape: Sequence[int], graph_bytes: int
    ) -> Graph:
        x = self._rng.standard_normal(shape).astype(np.float32)
        return Graph(kind, key, self._runtime.compile(model), x, graph_bytes)


def clock_of(device: Device) -> Callable[[], float]:
    """The clock, in seconds, that sees the least of other processes.

    One thread on a processor works exactly as long as its run takes on an idle machine, however
    often the system gives the core to somebody else in between; several threads, or another
    chip, can only be timed from outside.
    """
    alone = device.threads == 1 and device.provider in ("CPUExecutionProvider", "CPU", "cpu")
    return time.thread_time if alone and device.runtime != "openvino" else time.perf_counter


@lru_cache(maxsize=8)
def _exported(block: SubBlock, batch: int) -> onnx.ModelProto:
    """The float graph of a sub-block; several recipes of one follow each other."""
    module, shape = build(block, batch)
    return to_onnx(module, shape)


def _input_shape(candidate: Candidate, batch: int) -> tuple[int, ...]:
    a = candidate.architecture
    return batch, a.in_chans, a.input_size, a.input_size


