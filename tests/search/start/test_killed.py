"""The stages that adapt a start and make its library, killed in the middle, go on from there."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from vitpareto.search.store.run_folder import RunPaths
from vitpareto.search.training.checkpoint import read_notes

from ..own_vit import SPACE, Own

STAGES = textwrap.dedent("""
    import sys
    from pathlib import Path

    from vitpareto.search.config import load_config
    from vitpareto.search.run.assets import Run
    from vitpareto.search.run.opening import open_run
    from vitpareto.search.training import checkpoint

    checkpoint.EVERY_S = 0.0
    with open_run(load_config(sys.argv[1]), Path(sys.argv[2]), True) as folder, Run(folder) as run:
        run.ensure_library()
""")
# More to make than in a search of seconds: other mixers, and a longer adaptation.
MIXERS = SPACE.replace("    blocks:\n", "    blocks:\n      mixer: [softmax, linear, pooled]\n")
MIXERS = MIXERS.replace("head_dim: 8\n", "head_dim: 8\n    kv_pool: 2\n")


def begin(file: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", STAGES, str(file), str(folder)])


def killed_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()


def versions(path: Path, count: int) -> Callable[[], bool]:
    """Whether a file was replaced some times since it was first asked about."""
    seen: set[int] = set()

    def ready() -> bool:
        if path.exists():
            seen.add(path.stat().st_ino)
        return len(seen) > count

    return ready


@pytest.mark.slow
def test_killed_in_both_stages(own: Own, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(MIXERS)
    file, killed = tmp_path / "run.yaml", RunPaths(tmp_path / "killed")
    start = {"model": own.name, "adapt": {"epochs": 12, "batch_size": 64, "mixup": 0.2}}
    run = {"space": "space.yaml", "start": start, "executor": {"threads": 1}}
    file.write_text(yaml.safe_dump(run))

    killed_when(begin(file, killed.path), versions(killed.start_checkpoint, 1))
    killed_when(begin(file, killed.path), versions(killed.start_checkpoint, 3))
    assert not killed.start.exists()
    killed_when(begin(file, killed.path), versions(killed.library, 1))
    assert killed.start.exists() and not killed.start_checkpoint.exists()
    adapted = killed.start.read_bytes()
    killed_when(begin(file, killed.path), versions(killed.library, 2))
    assert read_notes(killed.library)["dropped"] != []
    assert begin(file, killed.path).wait(120) == 0
    assert killed.start.read_bytes() == adapted

    undisturbed = RunPaths(tmp_path / "undisturbed")
    assert begin(file, undisturbed.path).wait(120) == 0
    assert undisturbed.start.read_bytes() == adapted
    assert read_notes(undisturbed.library) == read_notes(killed.library)
    wanted, found = load_file(undisturbed.library), load_file(killed.library)
    assert wanted.keys() == found.keys()
    assert all(value.equal(found[name]) for name, value in wanted.items())
    assert len(read_notes(killed.library)["explained"]) == 4
