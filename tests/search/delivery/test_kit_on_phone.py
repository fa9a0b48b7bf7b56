"""The kit of a phone without Python: run.sh over adb, and what it saves."""

import os
import shutil
import subprocess
from copy import copy
from pathlib import Path

import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.standalone.phone import phone_identity
from vitpareto.search.delivery import kit as kits
from vitpareto.search.delivery import verify
from vitpareto.search.delivery.kit_results import verify_measured
from vitpareto.search.delivery.manifest import manifests
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError

from ...shared import needs_runtime
from ..made import SPACE, Made
from .phone_double import install

pytestmark = pytest.mark.onnx


def test_from_predicted_to_verified(made: Made, tmp_path: Path) -> None:
    needs_runtime("litert")
    (tmp_path / "bin").mkdir()
    program, device = install(tmp_path / "bin"), Device.load("cpu-litert")
    phone = tmp_path / "bin" / "phone"
    for name in ("getprop", "cpuinfo"):
        shutil.copy(phone / name, phone / f"{name}.txt")
    model = copy(made.model)
    model.identity = phone_identity(device.to_dict(), phone, program)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("")
    (run / "environment.json").write_text('{"run": "12ab"}')
    there = made._replace(device=device, model=model)
    there.deliver(run / "pareto", made.candidate)
    with RunFolder(run) as folder:
        verify.verify_new(folder, device, made.data)
    (manifest,) = manifests(run / "pareto")
    assert manifest.status.startswith("predicted for cpu-litert, not verified on it: ")

    kit, folder = tmp_path / "kit", RunFolder(run, lock=False)
    kits.write_kit(kits.pack(folder, SearchSpace.from_text(SPACE), made.data, 0), kit)
    text = (kit / "README.txt").read_text()
    assert "./run.sh benchmark_model" in text and "pip install numpy ai-edge-litert\n" in text
    environment = {**os.environ, "PHONE": str(phone)}

    def run_there(path: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "run.sh", str(program)],
            cwd=kit,
            env=environment | {"PATH": path},
            capture_output=True,
            text=True,
        )

    tools = tmp_path / "tools"  # all that the script needs but adb
    tools.mkdir()
    for name in ("dirname", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = run_there(str(tools))
    assert done.returncode == 2
    assert done.stderr == "run.sh: adb is not installed: apt install adb\n"
    bare = Path(made_python()).parent
    done = run_there(f"{program.parent}:{bare}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "100.0%" in done.stderr and "refused" not in done.stderr
    with RunFolder(run) as folder:
        (report,) = verify_measured(folder, kit, made.data)
    (manifest,) = manifests(run / "pareto")
    assert "verified on cpu-litert (Pixel 8 (Tensor G3)): " in manifest.status
    assert report.metrics == manifest.metrics and manifest.measured().latency_ms > 0
    assert manifest.measured().peak_memory_mb == pytest.approx(2.5 * 1.048576)
    told = {check.name: check for check in manifest.checks}
    assert told["images answered there"].found.startswith("8 of ")
    assert told["logits against torch"].holds
    assert "silent fallbacks" not in told  # no benchmark program tells its kernels

    (kit / "phone" / "answers" / f"{manifest.key}-0.bin").unlink()
    (kit / "measured" / f"{manifest.key}.npy").unlink()
    subprocess.run([made_python(), "phone.py", str(program)], cwd=kit, check=True)
    with RunFolder(run) as folder, pytest.raises(RunError, match="has no answers of"):
        verify_measured(folder, kit, made.data)


def made_python() -> str:
    """This Python, under the name that run.sh calls."""
    import sys

    return str(Path(sys.executable).with_name("python3"))
