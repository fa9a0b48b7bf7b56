import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vitpareto.cost_models.runtimes import scratch as module
from vitpareto.cost_models.runtimes.scratch import ROOM, scratch, scratch_place
from vitpareto.spaces.errors import CostError


def free(monkeypatch: pytest.MonkeyPatch, memory: int, usual: int) -> None:
    """Let both places have so many free bytes."""
    usage = {module.MEMORY: memory, tempfile.gettempdir(): usual}

    def disk_usage(path: str) -> shutil._ntuple_diskusage:
        return shutil._ntuple_diskusage(1 << 40, 0, usage[path])

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)


@pytest.mark.skipif(not Path(module.MEMORY).exists(), reason="Linux has it")
@pytest.mark.parametrize(
    ("memory", "usual", "in_memory"),
    [
        (ROOM, 100 * ROOM, True),
        (64 << 20, 100 * ROOM, False),
        (64 << 20, 1 << 20, True),
        (0, 0, True),
    ],
)
def test_memory_if_it_has_room(
    monkeypatch: pytest.MonkeyPatch, memory: int, usual: int, in_memory: bool
) -> None:
    free(monkeypatch, memory, usual)
    assert (scratch_place() == module.MEMORY) == in_memory


def test_without_such_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "MEMORY", str(tmp_path / "nowhere"))
    with scratch() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == Path(tempfile.gettempdir())
    assert not folder.exists()


def test_full(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CostError, match=r"no room is left for scratch files, .* TMPDIR"), scratch():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), scratch():
        raise PermissionError


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_a_session_beside_a_small_shared_memory(tmp_path: Path) -> None:
    """Graphs are simplified although /dev/shm holds nothing more."""
    script = (
        "import onnx, numpy as np\n"
        "from onnx import helper, numpy_helper\n"
        "from vitpareto.cost_models.runtimes.onnxruntime import simplify\n"
        "w = numpy_helper.from_array(np.ones((1500, 1500), np.float32), 'w')\n"
        "io = [helper.make_tensor_value_info(n, 1, [1, 1500]) for n in 'xy']\n"
        "node = helper.make_node('MatMul', ['x', 'w'], ['y'])\n"
        "graph = helper.make_graph([node], 'g', io[:1], io[1:], [w])\n"
        "opset = [helper.make_opsetid('', 17)]\n"
        "print(len(simplify(helper.make_model(graph, opset_imports=opset)).graph.node))\n"
    )
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*inside, f"{mount} true"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    command = f"{mount} '{sys.executable}' -c \"$0\""
    done = subprocess.run([*inside, command, script], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
