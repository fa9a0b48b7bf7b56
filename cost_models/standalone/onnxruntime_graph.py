"""ONNX Runtime's graph: a file that is opened with onnxruntime alone, and none of this package.

It is copied into bundles and kits, as graph.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

PACKAGE, ON_NVIDIA = "onnxruntime", "onnxruntime-gpu"
DISTRIBUTIONS = (PACKAGE, ON_NVIDIA, "onnxruntime-openvino")
MODULE = "onnxruntime"
MODULES = (MODULE,)  # that are loaded before a model is
KERNEL = "_kernel_time"  # ends the name of a node that is timed
CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
LEVEL = "graph_optimization_level"
LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
# Options of device files in the words of a session.
IN_SESSION = {
    "arena": "enable_cpu_mem_arena",
    "memory_pattern": "enable_mem_pattern",
    "optimization": LEVEL,
}
# Options of device files in the words of TensorRT's provider.
IN_TENSORRT = {
    "fp16": "trt_fp16_enable",
    "int8": "trt_int8_enable",
    "cuda_graph": "trt_cuda_graph_enable",
}


def version() -> str:
    """Version that is installed, in the words of `Device.identity`."""
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return import_module(MODULE).__version__


class Graph:
    """A session.

    Args:
        path: of an ONNX file.
        device: its threads and provider.

    Raises:
        ValueError: ONNX Runtime refuses the file.
        SystemExit: it has fallen back to another provider, which would be measured as this one.
    """

    def __init__(self, path: str, device: dict[str, Any]) -> None:
        self._path, self._device = path, device
        self._session = self._opened(None)
        self._name = self._session.get_inputs()[0].name
        self._shape = [int(n) for n in self._session.get_inputs()[0].shape]
        self._bound = bound(self._session, device)

    def run(self, x: Any) -> Any:
        """Inputs -> first output.

        Raises:
            ValueError: ONNX Runtime refuses to run the file, which it only tells of some then.
        """
        try:
            return self._bound(x) if self._bound else self._session.run(None, {self._name: x})[0]
        except refusals() as error:
            raise ValueError(str(error)) from error

    def kernels(self) -> dict[str, int]:
        """Count of each kind of kernel that one run executes."""
        import numpy as np

        with tempfile.TemporaryDirectory() as folder:
            session = self._opened(str(Path(folder) / "profile"))
            session.run(None, {self._name: np.zeros(self._shape, np.float32)})
            told = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        names = (e["args"]["op_name"] for e in told if e.get("name", "").endswith(KERNEL))
        return dict(Counter(names))

    def _opened(self, profile: str | None) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._device["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # As where it is measured with this package: threads that spin on would disturb the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        set_options(options, self._device)
        try:
            chosen = providers_of(self._device)
            session = ort.InferenceSession(self._path, options, providers=chosen)
        except refusals() as error:
            raise ValueError(str(error)) from error
        if reason := fallen_back(session, self._device):
            sys.exit(f"Error: {reason}")
        return session


def set_options(options: Any, device: dict[str, Any]) -> None:
    """Set what a device's options say of a session."""
    import onnxruntime as ort

    for name, value in settings_of(device).items():
        level = getattr(ort.GraphOptimizationLevel, value) if name == LEVEL else value
        setattr(options, name, level)


def settings_of(device: dict[str, Any]) -> dict[str, Any]:
    """A device's options in the words of a session; levels of optimization by name."""
    given = device.get("options", {})
    named = {theirs: given[name] for name, theirs in IN_SESSION.items() if name in given}
    return named | ({LEVEL: LEVELS[named[LEVEL]]} if LEVEL in named else {})


def providers_of(device: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Providers of a device and their options: what TensorRT leaves over, CUDA takes."""
    given, provider = device.get("options", {}), device["provider"]
    if provider == CUDA:
        return [(CUDA, {"enable_cuda_graph": "1"} if given.get("cuda_graph") else {})]
    if provider != TENSORRT:
        return [(provider, {})]
    own = {theirs: str(int(given[name])) for name, theirs in IN_TENSORRT.items() if name in given}
    if folder := given.get("engine_cache"):
        own |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder}
    if megabytes := given.get("workspace_mb"):
        own["trt_max_workspace_size"] = str(megabytes * 10**6)
    return [(TENSORRT, own), (CUDA, {})]


def fallen_back(session: Any, device: dict[str, Any]) -> str:
    """Reason why a session is not that of a device; empty where it is.

    Without a provider, or what this one needs, ONNX Runtime takes the processor and says nothing.
    """
    asked, has = device["provider"], session.get_providers()
    if asked in has:
        return ""
    return (
        f"ONNX Runtime was asked for {asked} and runs on {', '.join(has)}: install a build that "
        "has it, and the libraries that it needs"
    )


def bound(session: Any, device: dict[str, Any]) -> Any:
    """Run a session on memory of its device that stays where it is; None without that option.

    Graphs of CUDA are recorded at the first run and need it.
    """
    given = device.get("options", {})
    if not given.get("io_binding") and not given.get("cuda_graph"):
        return None
    import numpy as np
    import onnxruntime as ort

    place = "cuda" if device["provider"] in (CUDA, TENSORRT) else "cpu"
    (asked,), made = session.get_inputs(), session.get_outputs()[0]
    x, y = (
        ort.OrtValue.ortvalue_from_numpy(np.zeros(value.shape, np.float32), place, 0)
        for value in (asked, made)
    )
    binding = session.io_binding()
    binding.bind_ortvalue_input(asked.name, x)
    binding.bind_ortvalue_output(made.name, y)

    def run(images: Any) -> Any:
        x.update_inplace(images)
        session.run_with_iobinding(binding)
        return y.numpy().copy()

    return run


@cache
def refusals() -> tuple[type[Exception], ...]:
    """ONNX Runtime's errors, which share no base class but Exception.

    A run on bound memory that fails raises none of them, but a RuntimeError.
    """
    state = vars(import_module("onnxruntime.capi.onnxruntime_pybind11_state")).values()
    own = (one for one in state if isinstance(one, type) and issubclass(one, Exception))
    return (*own, RuntimeError)
