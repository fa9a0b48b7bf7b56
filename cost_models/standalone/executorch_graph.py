"""The graph of ExecuTorch: a program that is opened with executorch and torch, and none of ours.

It is copied into bundles and kits, as graph.py.
"""

from __future__ import annotations

import json
import struct
import subprocess
from collections import Counter
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .silence import silent

PACKAGE = "executorch"
MODULE = "executorch.extension.pybindings._C"  # without what only exporters need
MODULES = ("torch", MODULE)  # that are loaded before a model is, in this order
FORWARD = "forward"


def version() -> str:
    """Version that is installed, in the words of `Device.identity`."""
    return metadata.version(PACKAGE)


class Graph:
    """A program, of which one method runs a model.

    Args:
        path: of a file of ExecuTorch.
        device: its threads, which all programs of a process share.

    Attributes:
        input_shape: of a batch of images; channels come last.

    Raises:
        RuntimeError: ExecuTorch refuses the file.
    """

    def __init__(self, path: str, device: dict[str, Any]) -> None:
        self._torch: Any = import_module("torch")
        self._content = Path(path).read_bytes()
        if not is_whole(self._content):
            raise RuntimeError("not a program, or a part of it is missing")
        with silent():
            library: Any = import_module(MODULE)
            if library._threadpool_get_thread_count() != device["threads"]:
                library._unsafe_reset_threadpool(device["threads"])
            self._load: Any = library._load_for_executorch_from_buffer
            self._program = self._load(self._content)
            about = self._program.method_meta(FORWARD)
            self.input_shape = list(about.input_tensor_meta(0).sizes())

    def run(self, x: Any) -> Any:
        """Inputs -> first output; channels of images come first here, and last in the file."""
        return _run(self._torch, self._program, x)

    def kernels(self) -> dict[str, int]:
        """Executed kernels of XNNPACK with what they multiply, of one run."""
        import numpy as np

        shape = self.input_shape
        given = np.zeros(shape, np.float32)
        given = given.transpose(0, 3, 1, 2) if len(shape) == 4 else given
        with TemporaryDirectory() as folder, silent():
            program = self._load(self._content, enable_etdump=True)
            _run(self._torch, program, given)
            path = Path(folder) / "run.etdp"
            program.write_etdump_result_to_file(str(path))
            return _counted(path)


def is_whole(content: bytes) -> bool:
    """Whether a file is as long as its header says; what loads it does not look."""
    if content[4:6] != b"ET" or content[8:12] != b"eh00" or len(content) < 40:
        return False
    base, size = struct.unpack_from("<QQ", content, 24)
    return base + size == len(content)


def _run(torch: Any, program: Any, x: Any) -> Any:
    import numpy as np

    given = np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x, np.float32)
    # torch would copy the answer in threads of its own, which then wait for each other.
    (answer, *_) = program.forward((torch.from_numpy(given),), clone_outputs=False)
    found = answer.numpy().copy()  # as the next run writes over it
    return found.transpose(0, 3, 1, 2) if found.ndim == 4 else found


def _counted(path: Path) -> dict[str, int]:
    """Names of the operators of a delegate in what ExecuTorch writes of a run."""
    home = Path(str(import_module(MODULE).__file__)).parents[2]
    schema = home / "devtools" / "etdump" / "etdump_schema_flatcc.fbs"
    flatc = [
        home / "data" / "bin" / "flatc",
        "--size-prefixed",
        "--json",
        "--strict-json",
        "--raw-binary",
    ]
    command = [*flatc, "-o", path.parent, schema, "--", path]
    subprocess.run(command, check=True, capture_output=True)
    told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    events = (e.get("profile_event", {}) for run in told["run_data"] for e in run["events"])
    names = (event.get("delegate_debug_id_str", "") for event in events)
    return dict(Counter(name.rpartition(" #")[0] for name in names if name))
