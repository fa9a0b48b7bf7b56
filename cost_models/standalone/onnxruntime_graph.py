"""ONNX Runtime's graph: a file that is opened with onnxruntime alone, and none of this package.

It is copied into bundles and kits, as graph.py.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

PACKAGE = "onnxruntime"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
MODULE = "onnxruntime"
MODULES = (MODULE,)  # that are loaded before a model is
KERNEL = "_kernel_time"  # ends the name of a node that is timed


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
    """

    def __init__(self, path: str, device: dict[str, Any]) -> None:
        self._path, self._device = path, device
        self._session = self._opened(None)
        self._name = self._session.get_inputs()[0].name
        self._shape = [int(n) for n in self._session.get_inputs()[0].shape]

    def run(self, x: Any) -> Any:
        """Inputs -> first output."""
        return self._session.run(None, {self._name: x})[0]

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
        provider = self._device["provider"]
        try:
            return ort.InferenceSession(self._path, options, providers=[provider])
        except refusals() as error:
            raise ValueError(str(error)) from error


@cache
def refusals() -> tuple[type[Exception], ...]:
    """ONNX Runtime's errors, which share no base class but Exception."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return (
        *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf),
        *(state.NotImplemented, state.RuntimeException, state.EPFail, state.NoSuchFile),
    )
