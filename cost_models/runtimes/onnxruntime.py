"""ONNX Runtime, any provider that the installed build has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import MissingRuntimeError
from ..device import Device
from ..runtime_spec import ONNX, Option, RuntimeSpec
from ..standalone.energy_meter import NVIDIA, PROCESSOR
from ..standalone.onnxruntime_graph import (
    CPU,
    CUDA,
    LEVELS,
    TENSORRT,
    bound,
    fallen_back,
    providers_of,
    refusals,
    set_options,
)
from . import Runtime, Source, as_bytes
from .converting import refusal
from .kernel import Kernel
from .node_names import with_names
from .onnxruntime_profile import read_fallbacks, read_profile
from .scratch import scratch

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]
P = ParamSpec("P")
T = TypeVar("T")
_FATAL_ONLY = 4
_FUSES_LATE = "MatMulAddFusion"  # would hide the linear layers that quantization looks for
_SCALES = "ConvMulFusion"  # would rename weights, by which layers are known to be of a module
_SHARES = "ConstantSharing"  # across sub-blocks, whose sizes could not be added any more


def _told(does: Callable[P, T]) -> Callable[P, T]:
    """What raises a CostError where ONNX Runtime refuses: some graphs only once they run."""

    @wraps(does)
    def tells(*given: P.args, **named: P.kwargs) -> T:
        try:
            return does(*given, **named)
        except refusals() as error:
            raise refusal("ONNX Runtime", "graph", error) from error

    return tells


class OrtModel:
    """One inference session; what it does raises a CostError where ONNX Runtime refuses."""

    def __init__(self, model: Source, device: Device) -> None:
        self._source, self._device = as_bytes(model), device
        self._session = _session(self._source, device)
        self._name = self._session.get_inputs()[0].name
        self._shape = [int(n) for n in self._session.get_inputs()[0].shape]
        self._bound = bound(self._session, device.to_dict())

    @property
    def input_shape(self) -> list[int]:
        """Shape of the one input."""
        return self._shape

    @_told
    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> outputs."""
        if self._bound:
            return self._bound(images)
        return self._session.run(None, {self._name: images})[0]

    @_told
    def outputs(self, x: Array) -> list[Array]:
        """Likewise, all outputs."""
        return self._session.run(None, {self._name: x})

    @_told
    def fallbacks(self) -> dict[str, int]:
        """Kernels of one run that another provider than the device's executes, by kind."""
        with scratch() as folder:
            session = _session(self._source, self._device, profile=folder / "profile")
            session.run(None, {self._name: np.zeros(self._shape, np.float32)})
            told = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return read_fallbacks(told, self._device.provider)

    @_told
    def kernels(self) -> dict[str, int]:
        """Operators of the graph that is executed, after all optimization."""
        import onnx

        with scratch() as folder:
            path = folder / "optimized.onnx"
            _session(self._source, self._device, optimized=path)
            graph = onnx.load(path, load_external_data=False).graph
        return dict(Counter(node.op_type for node in graph.node))

    def memory_mb(self) -> None:
        """ONNX Runtime does not say; `footprint` measures it from outside."""
        return


class OrtWatched:
    """One session with its profiler on, and the graph that it executes in a file beside it."""

    def __init__(self, model: Source, device: Device) -> None:
        with ExitStack() as stack:
            folder = stack.enter_context(scratch())
            self._graph = folder / "executed.onnx"
            source = with_names(as_bytes(model)).SerializeToString()
            self._session = _session(source, device, self._graph, folder / "profile")
            self._files = stack.pop_all()
        self._name = self._session.get_inputs()[0].name

    @_told
    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> outputs."""
        return self._session.run(None, {self._name: images})[0]

    def kernels(self) -> tuple[list[Kernel], NDArray[np.float64]]:
        """Kernels in order of execution, and (runs, kernels) ms of each; it runs no more then."""
        import onnx

        with self._files:
            events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
            graph = onnx.load(self._graph, load_external_data=False).graph
            return read_profile(events, graph)


class OrtRuntime(Runtime):
    """Compiles for one provider and number of threads."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @_told
    def compile(self, model: Source) -> OrtModel:
        """Open a session.

        Raises:
            CostError: ONNX Runtime refuses the graph.
        """
        return OrtModel(model, self._device)

    @_told
    def watched(self, model: Source) -> OrtWatched:
        """Open a session that tells how long each of its kernels takes.

        Raises:
            CostError: ONNX Runtime refuses the graph.
        """
        return OrtWatched(model, self._device)


def open_runtime(device: Device) -> OrtRuntime:
    """ONNX Runtime with the device's provider.

    Raises:
        MissingRuntimeError: this build has no such provider.
    """
    import onnxruntime as ort

    providers = ort.get_available_providers()
    if device.provider not in providers:
        remedy = (
            "pip install 'vitpareto[cuda]'"
            if device.chip == NVIDIA
            else "install a build that has it"
        )
        raise MissingRuntimeError(
            f"device {device.name!r} needs {device.provider}, this ONNX Runtime has "
            f"{', '.join(providers)}: {remedy}"
        )
    return OrtRuntime(device)


SPEC = RuntimeSpec(
    name="onnxruntime",
    distributions=("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    install="vitpareto[search]",
    format=ONNX,
    chips={CPU: PROCESSOR, CUDA: NVIDIA, TENSORRT: NVIDIA},
    open=open_runtime,
    folds_constants=True,
    packs_zeros=True,
    hands_over=True,
    kernel_times=(CPU,),  # of a GPU its profile times the calls
    integer_kernels=(
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul"),
        *("QGemm", "ConvInteger", "QLinearConv", "QAttention"),
    ),
    options={
        "arena": Option(bool, (CPU,), (True, False)),
        "memory_pattern": Option(bool, (CPU,), (True, False)),
        "optimization": Option(tuple(LEVELS), (), tuple(reversed(LEVELS))),
        "io_binding": Option(bool),
        "cuda_graph": Option(bool, (CUDA, TENSORRT)),
        "fp16": Option(bool, (TENSORRT,)),
        "int8": Option(bool, (TENSORRT,)),
        "engine_cache": Option(str, (TENSORRT,)),
        "workspace_mb": Option(int, (TENSORRT,)),
    },
)


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and shapes, in standard operators only: ONNX Runtime's basic pass.

    Linear layers stay MatMul and Add, which is what quantization looks for.
    """
    import onnx
    import onnxruntime as ort

    options = _options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with scratch() as folder:
        path = folder / "simplified.onnx"
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[_FUSES_LATE, _SCALES, _SHARES],
        )
        return onnx.load(path)


def outputs_of(model: bytes, images: Array) -> list[Array]:
    """All outputs of a graph for one batch, on the processor."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, _options(1), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images})
    return [np.asarray(value, np.float32) for value in found]


def _options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL_ONLY
    return options


def _session(
    source: bytes | str,
    device: Device,
    optimized: Path | None = None,
    profile: Path | None = None,
) -> Any:
    import onnxruntime as ort

    options = _options(device.threads)
    # Threads that spin between runs would disturb whatever is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if device.affinity and device.threads > 1:
        pinned = ";".join(str(core + 1) for core in device.affinity[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", pinned)
    given = device.to_dict()
    set_options(options, given)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    session = ort.InferenceSession(source, options, providers=providers_of(given))
    if reason := fallen_back(session, given):
        raise MissingRuntimeError(f"device {device.name!r}: {reason}")
    return session
