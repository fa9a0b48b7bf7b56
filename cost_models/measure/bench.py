"""Bench: sub-blocks and networks as graphs, timed on a device against an anchor.

Graphs are written to a folder and timed in a fresh process, a session. Every session times fixed
sub-blocks too, the anchors; numbers of different sessions are compared through them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import onnx
import torch

from ...spaces import Candidate
from ...spaces.errors import CostError, last_line
from ..device import Device
from ..graphs.files import GraphFile, network_file, unit_file
from ..graphs.modules import build, input_shape, network
from ..graphs.short_names import rename
from ..graphs.to_onnx import INPUT, OUTPUT, to_onnx
from ..openmp import usual_environment
from ..predict.correction import COPIES
from ..runtime_spec import find_runtime
from ..runtimes import open_runtime
from ..runtimes.scratch import scratch
from ..runtimes.torch import threads
from ..standalone.runner import CLOCKS, time_folder
from ..standalone.timing import (
    HEAT_MS,
    IN_TURN,
    NETWORK_HEAT_MS,
    PLAN,
    RESULT,
    answer_of,
    measure_session,
)
from ..tables.anchors import ANCHORS, LARGE, coarseness, geometric
from ..tables.latency_table import Row
from ..units.precision_recipes import Book, group_of, recipe_for
from ..units.sub_block import SubBlock
from ..units.unit import Unit
from ..units.workload import workload
from .footprint import Footprint, footprint
from .worker import compile_file

MODELS, ROUNDS = 10, 12  # whole networks of one session, and samples of each
UNREST = 0.05  # spread of a session's rounds from which it is measured a second time
SESSION_S, GRAPH_S = 300.0, 30.0  # a session, and each of its graphs: what takes longer hangs
# Where the weights of a kind of sub-block are in its module, and in a network.
PATHS = {
    "stem": ("network.", ""),
    "mixer": ("module.", "stages.0.blocks.0."),
    "mlp": ("module.", "stages.0.blocks.0."),
    "downsample": ("", "stages.1.downsample."),
    "head": ("network.", ""),
}


@dataclass(frozen=True)
class TimedGraph:
    """A graph to be timed.

    Attributes:
        kind: of its row in a table.
        key: of its row in a table.
        model: bytes of a file of the runtime, or a torch module.
        shape: of its input.
        copies: how many equal sub-blocks it holds in a row.
        graph_bytes: of a network its file; of a sub-block what it adds to one.
        nodes: number of its nodes; 0 where unknown.
        recipes: of its row in a table.
    """

    kind: str
    key: str
    model: Any
    shape: tuple[int, ...]
    copies: int
    graph_bytes: int
    nodes: int = 0
    recipes: str = ""

    def entry(self) -> dict[str, Any]:
        """Entry of the graph in a plan."""
        names = ("kind", "key", "shape", "copies", "graph_bytes", "nodes", "recipes")
        return {name: getattr(self, name) for name in names}


class GraphMaker:
    """Makes the graphs that are timed on a device, which need not be this machine.

    Args:
        device: whose files they are.

    Attributes:
        anchors: the graphs that every session times too.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.anchors = [*_anchors(device)]

    @property
    def writes_files(self) -> bool:
        """Whether graphs are files, which other processes can load."""
        return find_runtime(self.device.runtime).from_graphs

    def unit(self, unit: Unit) -> TimedGraph:
        """A sub-block as a graph, several times in a row where its output fits its input."""
        return _unit(self.device, unit)

    def network(self, candidate: Candidate, recipes: Book, kind: str = "model") -> TimedGraph:
        """A whole network as a graph, in the candidate's own precision, without its exits."""
        candidate = candidate.without_exits()
        key, shape = candidate.to_json(), input_shape(candidate, self.device.batch)
        with threads(1):
            built = network(candidate)
            if not self.writes_files:
                return TimedGraph(kind, key, built, shape, 1, 0, _leaves(built))
            exported = to_onnx(built, shape)
        # Exported files say this of themselves, which belongs to their size.
        about = {"key": candidate.key, "input_size": candidate.architecture.input_size}
        told = {name: json.dumps(value) for name, value in about.items()}
        file = network_file(self.device, exported, candidate, recipes, told)
        book = {group_of(b): recipe_for(b, recipes) for b in workload(candidate).sub_blocks}
        return replace(_timed(kind, key, file, shape, 1), recipes=json.dumps(book, sort_keys=True))

    def sizes(self, units: Sequence[Unit]) -> list[Row]:
        """Rows that tell the size of sub-blocks, and no more."""
        graphs = [self.unit(unit) for unit in units] if self.writes_files else []
        return [Row("size", g.key, 0.0, 0.0, 0.0, 0, graph_bytes=g.graph_bytes) for g in graphs]


class Bench(GraphMaker):
    """Makes graphs and times them on one device.

    Args:
        device: where to.
        seed: of inputs and orders.

    Raises:
        MissingRuntimeError: the device's runtime is not installed here.
        CostError: it only runs elsewhere.
    """

    def __init__(self, device: Device, seed: int = 0) -> None:
        if stand_in := find_runtime(device.runtime).stand_in:
            raise CostError(
                f"device {device.name!r}: {device.runtime} does not run here, where it has "
                f"{stand_in} in its place: nothing can be timed; measure it elsewhere and give "
                "device.cost_model"
            )
        self._runtime = open_runtime(device)
        super().__init__(device)
        self._spec, self.seed = find_runtime(device.runtime), seed
        self._run = token_hex(4)
        self._sessions = 0

    def time(self, graphs: Sequence[TimedGraph], rounds: int = 7, way: str = IN_TURN) -> list[Row]:
        """Time graphs in one session: a row for each that the runtime takes.

        Args:
            graphs: what to time.
            rounds: samples of each, where they are timed in turn.
            way: `IN_TURN` or `ONE_BY_ONE`.

        Raises:
            CostError: the session's process failed, or hangs.
        """
        self._sessions += 1
        everything = [*graphs, *self.anchors]
        outside = self.writes_files
        answer = (
            self._outside(everything, rounds, way) if outside else self._inside(everything, rounds)
        )
        entries = [graph.entry() for graph in everything]
        return rows_of(entries, answer, f"{self._run}-{self._sessions}")

    def time_settled(
        self, graphs: Sequence[TimedGraph], rounds: int = 7, way: str = IN_TURN
    ) -> list[Row]:
        """Time graphs as `time` does; where the session was restless, measure each twice."""
        first = self.time(graphs, rounds, way)
        if not first or np.median([row.unrest for row in first]) <= UNREST:
            return first
        return [*first, *self.time(graphs, rounds, way)]

    def footprint(self, graph: TimedGraph) -> Footprint:
        """Memory and energy of a graph, in a fresh process."""
        with scratch() as folder:
            path = folder / f"model.{self._spec.format}"
            path.write_bytes(self._runtime.encode(graph.model, graph.shape))
            return footprint(self.device, str(path))

    def _outside(self, graphs: Sequence[TimedGraph], rounds: int, way: str) -> dict[str, Any]:
        """A session in a fresh process, or in the runtime's own."""
        with scratch() as folder:
            write_plan(folder, self.device, graphs, rounds, self.seed + self._sessions, [way])
            if self._spec.outside:
                self._runtime.renew()
                return time_folder(folder, compile_file, way)
            command = [
                sys.executable,
                "-m",
                "vitpareto.cost_models.measure.worker",
                str(folder),
                way,
            ]
            most_s = SESSION_S + GRAPH_S * len(graphs)
            try:
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    timeout=most_s,
                    env=usual_environment(),
                )
            except subprocess.TimeoutExpired:
                raise CostError(
                    f"measuring {len(graphs)} graphs was given up after {most_s:g} s: device "
                    f"{self.device.name!r} hangs, or is too slow for them"
                ) from None
            if done.returncode:
                last = last_line(done.stderr)
                raise CostError(f"measuring failed in its own process: {last}")
            return json.loads((folder / RESULT).read_text(encoding="utf-8"))

    def _inside(self, graphs: Sequence[TimedGraph], rounds: int) -> dict[str, Any]:
        """A session in this process, for modules that no file holds."""
        rng = np.random.default_rng(self.seed + self._sessions)
        with threads(self.device.threads):
            session = measure_session(
                [self._runtime.compile(graph.model) for graph in graphs],
                [rng.standard_normal(graph.shape).astype(np.float32) for graph in graphs],
                rounds,
                seed=self.seed + self._sessions,
                clock=CLOCKS[self.device.clock],
                heat_ms=heat_of(graphs),
            )
        anchors_ms = [timing.median_ms for timing in session.timings[-len(ANCHORS) :]]
        return {
            "way": IN_TURN,
            "drift": session.drift,
            "unix_time": int(time.time()),
            "graphs": [answer_of(timing, anchors_ms) for timing in session.timings],
        }


def write_plan(
    folder: Path,
    device: Device,
    graphs: Sequence[TimedGraph],
    rounds: int,
    seed: int,
    ways: Sequence[str],
    footprints: int = 0,
) -> None:
    """Write graphs and the plan that `runner` reads.

    Args:
        folder: to write to.
        device: that runs them.
        graphs: the anchors last.
        rounds: samples of each.
        seed: of inputs and order.
        ways: of timing, each in a session of its own.
        footprints: of how many, from the first, memory and energy are measured.
    """
    spec, entries = find_runtime(device.runtime), list[dict[str, Any]]()
    for index, graph in enumerate(graphs):
        name = f"{index}.{spec.format}"
        (folder / name).write_bytes(graph.model)
        entries.append(graph.entry() | {"file": name})
    plan = {
        "device": device.to_dict(),
        "clock": device.clock,
        "chip": device.chip,
        "rounds": rounds,
        "heat_ms": heat_of(graphs),
        "seed": seed,
        "ways": list(ways),
        "footprints": footprints,
        "anchors": len(ANCHORS),
        "channels_last": spec.channels_last,
        "graphs": entries,
    }
    (folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")


def heat_of(graphs: Sequence[TimedGraph]) -> float:
    """Time in ms that graphs run before each sample: sub-blocks are small."""
    return HEAT_MS if all(graph.kind == "unit" for graph in graphs) else NETWORK_HEAT_MS


def rows_of(entries: Sequence[dict[str, Any]], answer: dict[str, Any], session: str) -> list[Row]:
    """Rows of a session's answer, without its anchors and whatever the runtime refused.

    Args:
        entries: what the plan says of each graph; the anchors come last.
        answer: of `runner.time_folder`.
        session: names it in the table.

    Raises:
        CostError: an anchor was refused.
    """
    timings, count = answer["graphs"], len(ANCHORS)
    refused = [t["refused"] for t in timings[-count:] if "refused" in t]
    if refused:
        raise CostError(f"the anchors do not run: {refused[0]}")
    return [
        Row(
            entry["kind"],
            entry["key"],
            median_ms=t["median_ms"] / entry["copies"],
            p10_ms=t["p10_ms"] / entry["copies"],
            p90_ms=t["p90_ms"] / entry["copies"],
            n=t["n"],
            graph_bytes=entry["graph_bytes"],
            stable=t["stable"],
            way=answer["way"],
            drift=answer["drift"],
            session=session,
            unix_time=answer["unix_time"],
            samples_ms=tuple(ms / entry["copies"] for ms in t["samples_ms"]),
            recipes=entry.get("recipes", ""),  # kits of 0.2 do not say
            **_beside(entry, t, entries[-count:]),
        )
        for entry, t in zip(entries[:-count], timings[:-count], strict=True)
        if "refused" not in t
    ]


def _beside(
    entry: dict[str, Any], timing: dict[str, Any], anchors: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Fields of a row about the anchors: their times, and how like theirs its kernels are."""
    times, large = timing["anchors_ms"], len(LARGE)
    each = [ms / anchor["copies"] for ms, anchor in zip(times, anchors, strict=True)]
    coarse = 1.0
    if entry["nodes"]:
        nodes = [ms / anchor["nodes"] for ms, anchor in zip(times, anchors, strict=True)]
        coarse = coarseness(timing["median_ms"] / entry["nodes"], nodes)
    return {
        "anchor_ms": geometric(each[:large]),
        "small_anchor_ms": geometric(each[large:]),
        "coarse": coarse,
    }


@lru_cache(maxsize=8)
def _anchors(device: Device) -> tuple[TimedGraph, ...]:
    """The anchors of a device, which are the same in every bench."""
    return tuple(_unit(device, Unit(block, "float")) for block in ANCHORS)


def _unit(device: Device, unit: Unit) -> TimedGraph:
    block, batch = unit.block, device.batch
    with threads(1):
        if not find_runtime(device.runtime).from_graphs:
            module, shape = build(block, batch)
            return TimedGraph("unit", unit.key, module, shape, 1, 0, _leaves(module))
        model, shape = _exported(block, batch)
    copies = COPIES if _repeats(block) else 1
    return _timed("unit", unit.key, unit_file(device, model, unit.recipe, copies), shape, copies)


def _timed(kind: str, key: str, file: GraphFile, shape: tuple[int, ...], copies: int) -> TimedGraph:
    content, size, nodes = file.content, file.body_bytes, file.nodes
    return TimedGraph(kind, key, content, shape, copies, size, nodes)


@lru_cache(maxsize=8)
def _exported(block: SubBlock, batch: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """The float graph of a sub-block; several recipes of one follow each other.

    Its weights are called as in a network, where its file is to have the same size.
    """
    module, shape = build(block, batch)
    model = to_onnx(module, shape)
    own, there = PATHS[block.kind]
    names = [tensor.name for tensor in model.graph.initializer]
    paths = {name: there + name.removeprefix(own) for name in names if "." in name}
    inner = {INPUT: "fffe"} if block.kind != "stem" else {}
    inner |= {OUTPUT: "ffff"} if block.kind != "head" else {}
    rename(model.graph, paths | inner)
    return model, shape


def _leaves(module: torch.nn.Module) -> int:
    """Number of layers of a module, which has no nodes."""
    return sum(1 for part in module.modules() if not any(part.children()))


def _repeats(block: SubBlock) -> bool:
    return block.kind in ("mixer", "mlp") and block.place.kept == block.place.tokens
