"""Artifacts of runtimes other than ONNX Runtime pass the same gate."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from vitpareto.cost_models import Device, calibrate
from vitpareto.cost_models.measure.runnable import runnable
from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.search.delivery import handover, verify
from vitpareto.search.delivery import kit as kits
from vitpareto.search.delivery.artifact import Artifact
from vitpareto.search.delivery.formats import format_of
from vitpareto.search.delivery.manifest import manifests, read_manifest
from vitpareto.search.delivery.pick import pick_model
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import Policy, SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import everywhere, needs_device, needs_runtime
from ..made import SPACE, Made

FLOAT = SPACE.replace("[32, 8]", "32").replace("[8, 32]", "32")


@pytest.mark.slow
def test_a_torch_device_from_end_to_end(made: Made, tmp_path: Path) -> None:
    device, space = Device.load("torch-1t"), SearchSpace.from_text(FLOAT)
    there = made._replace(device=device, model=calibrate(device, space, 5.0, 0))
    folder = there.deliver(tmp_path / "pareto", made.candidate)
    (tmp_path / "config.yaml").write_text("")
    run = RunFolder(tmp_path, lock=False)
    verify.verify_new(run, device, made.data)
    (manifest,) = manifests(run.pareto)
    assert set(manifest.files) == {
        *("candidate.json", "model.safetensors", "model.torchscript.pt", "model.pt2"),
        "predict.py",
    }
    found = {check.name: check for check in manifest.checks}
    assert found["logits against torch"].holds and found["accuracy of the artifact"].holds
    assert manifest.measured().latency_ms > 0 and manifest.measured().size_mb > 0
    assert any("linear" in name or "addmm" in name for name in manifest.inventory.executed)
    (report,) = verify.verify_again(run, device, made.data)
    assert report.checks[0].name == "files" and report.checks[0].holds
    path = folder / "model.torchscript.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CostError, match="torch refuses the file") as caught:
        Artifact.load(folder, device)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.parametrize(
    ("runtime", "file"),
    [
        ("litert", "model.tflite"),
        ("ncnn", "model.ncnn.zip"),
        ("executorch", "model.pte"),
        ("mnn", "model.mnn"),
    ],
)
def test_what_converts_from_end_to_end(made: Made, tmp_path: Path, runtime: str, file: str) -> None:
    """Calibrated, predicted, delivered, verified and packed, in float32 and int8."""
    needs_runtime(runtime)
    device = Device.load(f"cpu-{runtime}")
    space, _ = runnable(device, SearchSpace.from_text(SPACE))
    there = made._replace(device=device, model=calibrate(device, space, 15.0, 0))
    assert there.model.identity["runtime"] == runtime
    (tmp_path / "config.yaml").write_text("")
    run = RunFolder(tmp_path, lock=False)
    # ncnn keeps a table beside weights that are only stored, which nobody predicted for the stem
    # and the head: the space has none in 8 bits. ExecuTorch has no such weights, MNN but floats.
    weights_alone = [Policy(8, 32)] if runtime == "litert" else []
    policies = [Policy(), *([Policy(8, 8), *weights_alone] if runtime != "mnn" else [])]
    keys = [
        there.deliver(run.pareto, everywhere(made.candidate, policy)).name for policy in policies
    ]
    verify.verify_new(run, device, made.data)
    delivered = {manifest.key: manifest for manifest in manifests(run.pareto)}
    for key, integers in zip(keys, (False, True, False)[: len(keys)], strict=True):
        manifest = delivered[key]
        assert set(manifest.files) == {*("candidate.json", "model.safetensors", file, "predict.py")}
        checks = {check.name: check for check in manifest.checks}
        names = {"silent fallbacks", "size_mb", "peak_memory_mb"}
        names |= {"agreement with torch"} if integers else {"logits against torch"}
        assert all(checks[name].holds for name in names), checks
        executed = manifest.inventory.executed
        assert (find_runtime(runtime).integers(executed) > 0) == integers
    reports = verify.verify_again(run, device, made.data)
    assert all(report.checks[0].holds and report.metrics for report in reports)
    (tmp_path / "environment.json").write_text('{"run": "12ab"}')
    kit = kits.write_kit(kits.pack(run, space, made.data, 0), tmp_path / "kit")
    done = subprocess.run([sys.executable, "run.py"], cwd=kit, capture_output=True, text=True)
    assert done.returncode == 0 and "Bring this folder back" in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.parametrize("name", ["node", "browser", "browser-litert"])
def test_the_web_from_end_to_end(made: Made, tmp_path: Path, name: str) -> None:
    """Calibrated, predicted, delivered with a page and verified, in float32 and in int8."""
    needs_device(name)
    device, space = Device.load(name), SearchSpace.from_text(SPACE)
    there = made._replace(device=device, model=calibrate(device, space, 15.0, 0))
    assert there.model.identity["runtime"] == device.runtime
    assert there.model.identity["host"].startswith("node" if name == "node" else "chrom")
    (tmp_path / "config.yaml").write_text("")
    run = RunFolder(tmp_path, lock=False)
    keys = [
        there.deliver(run.pareto, everywhere(made.candidate, policy)).name
        for policy in (Policy(), Policy(8, 8))
    ]
    verify.verify_new(run, device, made.data)
    delivered = {manifest.key: manifest for manifest in manifests(run.pareto)}
    for key, integers in zip(keys, (False, True), strict=True):
        manifest = delivered[key]
        page = {"index.html", "about.json", "predict.py"}
        assert {format_of(device).file, *page} < set(manifest.files)
        checks = {check.name: check for check in manifest.checks}
        names = {"silent fallbacks", "size_mb", "peak_memory_mb"}
        names |= {"agreement with torch"} if integers else {"logits against torch"}
        assert all(checks[name].holds for name in names), checks
        executed = manifest.inventory.executed
        assert (find_runtime(device.runtime).integers(executed) > 0) == integers
    reports = verify.verify_again(run, device, made.data)
    assert all(report.checks[0].holds and report.metrics for report in reports)


@pytest.fixture(scope="module")
def run(made: Made, verified: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A verified run of models of several precisions."""
    path = shutil.copytree(verified, tmp_path_factory.mktemp("run") / "run")
    return RunFolder(Path(path), lock=False)


POLICIES = {"float": Policy(), "int8": Policy(8, 8), "sparse": Policy(8, 8, sparsity=0.5)}


@pytest.mark.parametrize("name", ["float", "int8", pytest.param("sparse", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "runtime",
    [
        "torch",
        "openvino",
        "litert",
        "ncnn",
        "executorch",
        "mnn",
        "coreml",
        "qnn",
        "onnxruntime-web",
        "litert-web",
    ],
)
@pytest.mark.onnx
def test_models_made_again_for_another_runtime(
    made: Made, run: RunFolder, tmp_path: Path, runtime: str, name: str
) -> None:
    needs_runtime(runtime)
    candidate = everywhere(made.candidate, POLICIES[name])
    if not (run.pareto / candidate.key).exists():
        made.deliver(run.pareto, candidate)
        verify.verify_new(run, made.device, made.data)
    chosen = pick_model(manifests(run.pareto), candidate.key)
    path = handover.export_picked(run.pareto, lambda: made.data, chosen, runtime, tmp_path)
    manifest = read_manifest(path.parent)
    assert manifest.device.runtime == runtime
    assert manifest.checks and all(check.holds for check in manifest.checks)
    assert not manifest.verified  # nothing was predicted for this runtime
    split = made.data.split("validation")
    artifact = Artifact.load(path.parent, manifest.device)
    right = (artifact.logits(split).argmax(1) == split.labels).double().mean().item()
    assert right == manifest.answers.accuracy
    if runtime == "torch":
        x = split.images[:1]
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is on its way out
            fact = {"about.json": ""}
            program = torch.export.load(path.with_name("model.pt2"), extra_files=fact).module()
            assert json.loads(fact["about.json"])["key"] == candidate.key == manifest.key
            assert (program(x) - torch.jit.load(path)(x)).abs().max() < 1e-5
