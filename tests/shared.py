"""What takes long to make is made by one of the processes that share the tests."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

BROWSER, NODE = "browser", "node"  # devices
MODULES = {
    "litert": "ai_edge_litert",
    "mnn": "MNN",
    "coreml": "coremltools",
    "qnn": "onnxruntime_qnn",
}  # of runtimes whose module is called otherwise


def needs_runtime(name: str) -> None:
    """Skip the test where a runtime is not installed."""
    if name == "onnxruntime-web":
        needs_device(BROWSER)
    else:
        pytest.importorskip(MODULES.get(name, name))


def needs_device(name: str) -> None:
    """Skip the test where a device that is more than a package cannot be used."""
    from vitpareto.cost_models import Device
    from vitpareto.cost_models.runtimes import available

    if missing := available(Device.load(name)):
        pytest.skip(missing)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process to ask for it fills, while the others wait.

    All read it, so what is to be changed is copied first.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder of its own in that of the session
        session = session.parent
    folder, done = session / name, session / f"{name}.done"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failure left
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
