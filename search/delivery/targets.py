"""Targets: models by runtime, each converted, run, compared with ONNX Runtime and timed here.

Every runtime of the registry has its row, installed or not, so that one table says where a model
can go and what is missing. Networks are the same in all of them; each stores their weights by its
own recipes, so that answers of rounded models differ by more than those of float ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cost_models import Device
from ...cost_models.graphs.modules import input_shape
from ...cost_models.measure.bench import Bench, TimedGraph
from ...cost_models.runtime_spec import RUNTIMES, RuntimeSpec
from ...cost_models.runtimes import available, find_runtime, open_runtime, run_all
from ...cost_models.standalone.runner import REFUSALS
from ...spaces import Candidate
from ...spaces.errors import CostError, first_line
from .build import Build
from .formats import format_of
from .handover import device_of

ORIGIN = "onnxruntime"  # whose answers are the reference
TURNS = 2  # sessions of each runtime, of which the faster one tells

Array = NDArray[np.float32]
Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is to be tried in every runtime.

    Attributes:
        name: for people.
        candidate: whose network and compression it is.
        build: device -> the network made ready for it.
        images: (N, C, S, S) at the candidate's size, on which answers are compared.
        predicted: runtime -> latency in ms that a cost model gives where it cannot be measured.
    """

    name: str
    candidate: Candidate
    build: Callable[[Device], Build]
    images: Array
    predicted: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Target:
    """One model in one runtime.

    Attributes:
        model: its name.
        key: of its candidate.
        runtime: its name.
        version: that is installed; empty where none is.
        device: by whose precisions and threads it was tried.
        converts: whether a file was made; None where nothing was tried.
        runs: whether that gave answers; None where something else stands in for the runtime.
        max_abs_difference: largest one of a logit to ONNX Runtime's.
        agreement: share of the images with the same answer as there.
        precision: that its kernels execute, in words; empty where they do not tell.
        latency_ms: of one run here, the median of the faster of some sessions.
        predicted_ms: latency by a cost model, where it could not be measured.
        size_mb: of the file.
        missing: what to install, why it was refused, or what answered in its place; empty where all
            went well.
    """

    model: str
    key: str
    runtime: str
    version: str
    device: str
    converts: bool | None = None
    runs: bool | None = None
    max_abs_difference: float | None = None
    agreement: float | None = None
    precision: str = ""
    latency_ms: float | None = None
    predicted_ms: float | None = None
    size_mb: float | None = None
    missing: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the arguments of the class."""
        return asdict(self)


def try_targets(
    models: Sequence[Model], own: Device | None = None, progress: Progress | None = None
) -> list[Target]:
    """Try models in every runtime; the rows of one model follow each other.

    Args:
        models: what to try.
        own: device that stands for its runtime, and whose batch all have, so that latencies are of
            as many images; the runtime's first preset by default.
        progress: called with the share that is done, and the runtime that is tried or timed.
    """
    names = [ORIGIN, *(name for name in RUNTIMES if name != ORIGIN)]
    steps = len(names) * (1 + TURNS)

    def tell(done: int, words: str) -> None:
        if progress:
            progress(done / steps, words)

    answers: dict[str, Array] = {}
    rows: dict[tuple[int, str], Target] = {}
    waiting: dict[Device, list[TimedGraph]] = {}
    for done, name in enumerate(names):
        tell(done, name)
        device = device_of(name)
        if own:
            device = own if own.runtime == name else replace(device, batch=own.batch)
        reason, spec = available(device), find_runtime(name)
        for index, model in enumerate(models):
            row = Target(model.name, model.candidate.key, name, spec.version, device.name)
            row = replace(row, missing=reason, predicted_ms=model.predicted.get(name))
            if not reason:
                row, content = _tried(row, model, device, answers)
                if row.runs:
                    key, shape = str(index), input_shape(model.candidate, device.batch)
                    graph = TimedGraph("model", key, content, shape, 1, len(content))
                    waiting.setdefault(device, []).append(graph)
            rows[index, name] = row
    for turn in range(1, 1 + TURNS):  # in turn, as the machine may be slow while one is timed
        for device, graphs in waiting.items():
            tell(turn * len(names) + names.index(device.runtime), f"timing {device.runtime}")
            for key, ms in _timed(device, graphs).items():
                row = rows[int(key), device.runtime]
                best = min(ms, row.latency_ms or ms)
                rows[int(key), device.runtime] = replace(row, latency_ms=best, predicted_ms=None)
    return [rows[index, name] for index in range(len(models)) for name in names]


def _tried(
    row: Target, model: Model, device: Device, answers: dict[str, Array]
) -> tuple[Target, bytes]:
    """A row with what came of converting and running a model; and the file."""
    content = b""
    try:
        content = format_of(device).encode(model.build(device), device, None)
        row = replace(row, converts=True, size_mb=len(content) / 1e6)
        compiled = open_runtime(device).compile(content)
        found = run_all(compiled, model.images, device.batch)
    except REFUSALS as error:
        why = first_line(error)
        return replace(row, converts=row.converts or False, runs=False, missing=why), content
    if device.runtime == ORIGIN:
        answers[model.name] = found
    spec = find_runtime(device.runtime)
    if spec.stand_in:
        told = f"converted, not run here: its answers are by {spec.stand_in}"
        row = replace(row, missing=told)
    else:
        row = replace(row, runs=True, precision=executed(spec, compiled))
    if (wanted := answers.get(model.name)) is not None:
        same = found.argmax(-1) == wanted.argmax(-1)
        row = replace(
            row,
            max_abs_difference=float(np.abs(found - wanted).max()),
            agreement=float(same.mean()),
        )
    return row, content


def _timed(device: Device, graphs: Sequence[TimedGraph]) -> dict[str, float]:
    """Key of a graph -> median latency in ms, of one session; those that a session refuses lack."""
    try:
        rows = Bench(device).time(graphs)
    except CostError:  # the fixed sub-blocks that are timed beside them do not run there
        return {}
    return {row.key: row.median_ms for row in rows}


def executed(spec: RuntimeSpec, compiled: Any) -> str:
    """The precision in which kernels are executed, in words.

    Args:
        spec: of the runtime.
        compiled: model, `runtimes.Compiled`.
    """
    if not (spec.integer_kernels or spec.half_kernels):
        return "float32"
    kernels = compiled.kernels()
    integers, total = spec.integers(kernels), sum(kernels.values())
    if integers:
        return f"int8 in {integers} of {total} kernels"
    return "16-bit floats" if spec.rounds(kernels) else "float32"
