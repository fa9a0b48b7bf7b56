"""A kit is measured with its runtime alone, and what comes back is believed if everything fits."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import CostModel, calibrate
from vitpareto.cost_models.standalone.kit_files import KIT, MEASURED
from vitpareto.cost_models.standalone.seal import sha256, write_sealed
from vitpareto.search.delivery import kit as kits
from vitpareto.search.delivery import verify
from vitpareto.search.delivery.kit_results import verify_measured
from vitpareto.search.delivery.manifest import manifests, read_manifest, write_manifest
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import Policy, SearchSpace
from vitpareto.spaces.errors import CostError, RunError

from ...shared import everywhere
from ..made import SPACE, Made

pytestmark = pytest.mark.onnx


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models that nobody has measured."""
    path = tmp_path_factory.mktemp("run")
    (path / "config.yaml").write_text("")
    (path / "environment.json").write_text('{"run": "12ab"}')
    for policy in (Policy(), Policy(8, 8)):
        made.deliver(path / "pareto", everywhere(made.candidate, policy))
    return path


@pytest.fixture(scope="module")
def back(made: Made, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its kit, which was run on this machine."""
    folder, space = RunFolder(run, lock=False), SearchSpace.from_text(SPACE)
    out = tmp_path_factory.mktemp("kits") / "kit"
    kit = kits.pack(folder, space, made.data, 6)
    few = replace(kit.device, recipes=("float", "dynamic8", "stored8"))  # less to do
    kit = replace(kit, device=few, networks=4)
    assert kits.write_kit(kit, out) == out
    with pytest.raises(RunError, match="exists already, nothing was written"):
        kits.write_kit(kit, out)
    done = subprocess.run([sys.executable, "run.py"], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "100.0%" in done.stderr and "Bring this folder back" in done.stderr
    return out


@pytest.fixture
def copied(run: Path, back: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of both, to change."""
    return (
        Path(shutil.copytree(run, tmp_path / "run")),
        Path(shutil.copytree(back, tmp_path / "kit")),
    )


def test_it_holds_what_its_readme_says(run: Path, back: Path) -> None:
    text = (back / "README.txt").read_text()
    assert f"vitpareto verify {run} --measured DIR" in text
    assert "pip install numpy onnxruntime==" in text and "adb" not in text
    names = {path.name for path in back.iterdir()}
    assert names >= {"run.py", "graph.py", "models", "blocks", "inputs", "expected", KIT, MEASURED}
    kit = json.loads((back / KIT).read_text())
    assert kit["run"] == "12ab" and len(kit["models"]) == 2
    for key, about in kit["models"].items():
        assert (back / about["file"]).read_bytes() == (
            run / "pareto" / key / "model.onnx"
        ).read_bytes()
    images = kit["images"]
    assert sorted(images[:8]) != sorted(images)[:8], "all of one class, where these are folders"
    csv = (back / "measured.csv").read_text().splitlines()
    assert len(csv) == 3 and csv[0].startswith("key,latency_ms")


def test_without_its_runtime_it_ends_in_one_line(back: Path, tmp_path: Path) -> None:
    packages = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        (tmp_path / name).symlink_to(packages / name)
    command, alone = [sys.executable, "-S", "run.py"], {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=back, env=alone, capture_output=True, text=True)
    missing = f"onnxruntime is not installed: {sys.executable} -m pip install onnxruntime"
    assert (done.returncode, done.stderr) == (1, f"Error: {missing}\n")


def test_what_comes_back_verifies_the_run(made: Made, copied: tuple[Path, Path]) -> None:
    run, kit = copied
    with RunFolder(run) as folder:
        reports = verify_measured(folder, kit, made.data)
    digest = json.loads((kit / KIT).read_text())["digest"]
    for report in reports:
        manifest = read_manifest(run / "pareto" / report.key)
        assert manifest.kit == digest and manifest.metrics == report.metrics
        assert manifest.identity == made.device.identity()
        word = "verified" if manifest.verified else "not verified"
        processor = manifest.identity["processor"]
        assert manifest.status.startswith(f"{word} on cpu-1t ({processor}): ")
        holds = {check.name: check.holds for check in manifest.checks}
        assert holds["images answered there"] and holds["accuracy of the artifact"]
        assert holds["silent fallbacks"] and holds["size_mb"] and "latency_ms" in holds
        assert manifest.inventory.executed and manifest.measured().peak_memory_mb > 0
        assert manifest.measured().latency_p10_ms <= manifest.measured().latency_ms


@pytest.mark.slow
def test_on_its_own_machine_a_run_is_measured_again(made: Made, copied: tuple[Path, Path]) -> None:
    run, kit = copied
    with RunFolder(run) as folder:
        verify_measured(folder, kit, made.data)
    before = {m.key: m.measured().latency_ms for m in manifests(run / "pareto")}
    with RunFolder(run) as folder:
        verify.verify_again(folder, made.device, made.data)
    for manifest in manifests(run / "pareto"):
        assert manifest.kit is None
        assert 1 / 3 < manifest.measured().latency_ms / before[manifest.key] < 3


def edited(kit: Path, name: str) -> None:
    """Change the last byte of a file."""
    raw = bytearray((kit / name).read_bytes())
    raw[-1] ^= 1
    (kit / name).write_bytes(raw)


def resealed(path: Path, **changes: object) -> None:
    """Change a sealed file as somebody would who knows how it is sealed."""
    write_sealed(path, json.loads(path.read_text()) | changes)


def refused(run: Path, kit: Path, made: Made, words: str) -> None:
    """Whatever does not fit is one line, and nothing is written."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with RunFolder(run) as folder, pytest.raises(RunError, match=words) as caught:
        verify_measured(folder, kit, made.data)
    assert "\n" not in str(caught.value)
    after = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "lock"}
    assert after == {p: raw for p, raw in before.items() if p.name != "lock"}


def test_a_kit_that_was_edited(made: Made, copied: tuple[Path, Path]) -> None:
    run, kit = copied
    key = next(iter(json.loads((kit / KIT).read_text())["models"]))
    for name in (f"expected/{key}.npy", f"measured/{key}.npy", "run.py"):
        kept = (kit / name).read_bytes()
        edited(kit, name)
        refused(run, kit, made, rf"{name}: was edited: it does not have the hash")
        (kit / name).write_bytes(kept)
    for name in (KIT, MEASURED):
        kept = (kit / name).read_text()
        (kit / name).write_text(kept.replace("cpu-1t", "cpu-9t").replace("latency_ms", "latency"))
        refused(run, kit, made, f"{name}: was edited: its content")
        (kit / name).write_text(kept)


def test_one_answer_that_is_another_one(made: Made, copied: tuple[Path, Path]) -> None:
    run, kit = copied
    measured = json.loads((kit / MEASURED).read_text())
    float_key = next(
        m.key for m in manifests(run / "pareto") if set(m.recipes.values()) == {"float"}
    )
    name = f"measured/{float_key}.npy"
    answers = np.load(kit / name)
    answers[3, 2] += 0.5
    np.save(kit / name, answers)
    files = measured["files"] | {name: sha256(kit / name)}
    resealed(kit / MEASURED, files=files)
    refused(run, kit, made, rf"{float_key} answers otherwise there: logits against torch is 0\.5")
    np.save(kit / name, answers[:2])
    resealed(kit / MEASURED, files=files | {name: sha256(kit / name)})
    refused(run, kit, made, r"answers of .* must be of 8 to \d+ images and 10 classes, got \(2, 10")
    resealed(kit / MEASURED, files={n: sha for n, sha in files.items() if n != name})
    refused(run, kit, made, "has no answers of .*, so that none were compared")


def test_a_kit_of_another_run_or_machine(made: Made, copied: tuple[Path, Path]) -> None:
    run, kit = copied
    (run / "environment.json").write_text('{"run": "another"}')
    refused(run, kit, made, "is a kit of another run, 'run")
    (run / "environment.json").write_text('{"run": "12ab"}')
    identity = json.loads((kit / MEASURED).read_text())["identity"]
    resealed(kit / MEASURED, identity=identity | {"processor": "another"})
    refused(run, kit, made, "was measured on another device than cpu-1t .*: processor is")
    resealed(kit / MEASURED, identity=identity, kit="0")
    refused(run, kit, made, "was measured with another kit")
    (kit / MEASURED).unlink()
    refused(run, kit, made, r"has no measured\.json; run there first what README\.txt in it says")
    refused(run, kit / "nowhere", made, "no such folder")


def test_a_run_for_another_machine_does_not_take_results_of_this_one(
    made: Made, copied: tuple[Path, Path]
) -> None:
    run, kit = copied
    for manifest in manifests(run / "pareto"):
        there = {**manifest.identity, "processor": "Cortex-A78"}
        write_manifest(run / "pareto" / manifest.key, replace(manifest, identity=there))
    refused(run, kit, made, "another device than cpu-1t .Cortex-A78.: processor is 'Cortex-A78'")


def test_its_sub_blocks_make_a_cost_model(
    made: Made, copied: tuple[Path, Path], tmp_path: Path
) -> None:
    _, kit = copied
    space = SearchSpace.from_text(SPACE)
    model = calibrate(made.device, space, tables=[kit], out=tmp_path / "there.json")
    assert model.identity == made.device.identity() and model.validation["sub_blocks"] >= 6
    assert (
        CostModel.load(tmp_path / "there.json").predict(space.sample(3, 0)).latency_ms > 0
    ).all()
    edited(kit, "blocks/000/result.json")
    with pytest.raises(CostError, match=r"result\.json: was edited"):
        calibrate(made.device, space, tables=[kit])
    (kit / MEASURED).unlink()
    with pytest.raises(
        CostError, match=r"has no measured\.json; run there first what README\.txt in it says"
    ):
        calibrate(made.device, space, tables=[kit])
