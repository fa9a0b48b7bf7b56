"""Models for a device that is another machine: predicted for it, and not verified here."""

import json
import shutil
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from vitpareto.cost_models import CostModel, Device
from vitpareto.search.cli.text import choice_lines, model_lines, model_table
from vitpareto.search.config import load_config
from vitpareto.search.delivery import tested, verify
from vitpareto.search.delivery.answering import stand_in
from vitpareto.search.delivery.handover import export_picked
from vitpareto.search.delivery.manifest import manifests, read_manifest, write_manifest
from vitpareto.search.delivery.pick import pick_model
from vitpareto.search.run.opening import check_setup
from vitpareto.search.run.results import load_run
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import Policy
from vitpareto.spaces.errors import CostError, MissingRuntimeError

from ...shared import everywhere
from ..made import Made

pytestmark = pytest.mark.onnx
PHONE = {"processor": "Cortex-A78", "isa": "asimddp i8mm", "cores": 8, "system": "Linux aarch64"}


def for_phone(model: CostModel) -> CostModel:
    """The cost model as if it had been measured on a phone."""
    there = copy(model)
    there.identity = {**model.identity, **PHONE}
    return there


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models for a phone, verified as far as that goes here."""
    path, there = tmp_path_factory.mktemp("run"), made._replace(model=for_phone(made.model))
    (path / "config.yaml").write_text("space: digits\n")
    there.model.save(path / "cost_model.json")
    for policy in (Policy(), Policy(8, 8)):
        there.deliver(path / "pareto", everywhere(made.candidate, policy))
    with RunFolder(path) as folder:
        verify.verify_new(folder, made.device, made.data)
        tested.test_once(folder, made.device, made.data)
    return path


def test_a_model_is_predicted_for_it(made: Made, run: Path) -> None:
    for manifest in manifests(run / "pareto"):
        assert manifest.metrics is None and not manifest.verified and not manifest.broken
        assert manifest.identity["processor"] == "Cortex-A78"
        assert manifest.state == "predicted for cpu-1t, not verified on it"
        assert manifest.status.startswith(f"{manifest.state}: ")
        assert "as it answers here" in manifest.status and "ms predicted" in manifest.status
        assert {check.name for check in manifest.checks} & {
            *("logits against torch", "agreement with torch")
        }
        assert "latency_ms" not in {check.name for check in manifest.checks}
        assert manifest.answers.accuracy > 0.9 and manifest.test.accuracy > 0.8
        assert manifest.figures.latency_ms == manifest.promised.latency_ms
        body = json.loads((run / "pareto" / manifest.key / "manifest.json").read_text())
        assert body["status"] == manifest.status and not body["verified"]


def test_everything_that_is_printed_says_so(run: Path, tmp_path: Path) -> None:
    delivered = manifests(run / "pareto")
    chosen = pick_model(delivered, "fastest")
    words = "predicted for cpu-1t, not verified on it"
    for lines in (model_lines(delivered), choice_lines(delivered, chosen), model_table(delivered)):
        assert sum(words in line for line in lines) == 2
    rows = load_run(run).results()
    assert [row["state"] for row in rows] == [words, words]
    assert not any(row["verified"] for row in rows)
    path = export_picked(run / "pareto", lambda: None, chosen, None, tmp_path)
    assert read_manifest(path.parent).state == words


def test_verifying_here_checks_answers_and_promises_nothing(made: Made, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("manifest.json")}
    with RunFolder(run) as folder:
        reports = verify.verify_again(folder, made.device, made.data)
    for report in reports:
        assert report.holds and not report.verified and report.metrics is None
        assert report.checks[0].name == "files"
        assert report.to_dict()["status"].startswith("predicted for cpu-1t")
    assert {path: path.read_bytes() for path in before} == before


def test_old_manifests_that_were_verified_on_the_host(
    made: Made, run: Path, tmp_path: Path
) -> None:
    """Until 0.2 the host timed them, and called that verified."""
    path = Path(shutil.copytree(run, tmp_path / "run"))
    (path / "cost_model.json").unlink()
    for manifest in manifests(path / "pareto"):
        new = replace(manifest, identity=made.device.identity(), answers=None)
        write_manifest(path / "pareto" / manifest.key, new)
    with RunFolder(path) as folder:
        verify.verify_new(folder, made.device, made.data)
    assert all(m.metrics and not m.is_predicted for m in manifests(path / "pareto"))
    for_phone(made.model).save(path / "cost_model.json")
    for manifest in manifests(path / "pareto"):
        assert manifest.is_predicted and not manifest.verified
        assert manifest.identity["processor"] == "Cortex-A78"
        assert "latency_ms" not in {check.name for check in manifest.checks}
    with RunFolder(path) as folder:
        verify.verify_again(folder, made.device, made.data)
    for key in (m.key for m in manifests(path / "pareto")):
        assert not json.loads((path / "pareto" / key / "manifest.json").read_text())["verified"]


def test_neither_its_runtime_nor_its_provider_is_needed(made: Made, tmp_path: Path) -> None:
    gpu = {"provider": "CUDAExecutionProvider", "processor": "NVIDIA Orin"}
    model = copy(made.model)
    model.identity = {**model.identity, **gpu}
    model.save(tmp_path / "gpu.json")
    device = tmp_path / "gpu.yaml"
    device.write_text(
        "runtime: onnxruntime\nprovider: CUDAExecutionProvider\nthreads: 1\nrecipes: [float]\n"
    )
    named = f"device.name={device}"
    with pytest.raises(MissingRuntimeError, match="needs CUDAExecutionProvider"):
        check_setup(load_config("digits", [named]))
    given = f"device.cost_model={tmp_path / 'gpu.json'}"
    (opened,) = check_setup(load_config("digits", [named, given]))
    assert stand_in(opened, model.identity).provider == "CPUExecutionProvider"
    with pytest.raises(CostError, match=r"gpu\.json: was measured with provider 'CUDA.*', device"):
        check_setup(load_config("digits", [given]))


def test_on_its_own_machine_a_device_answers_for_itself(made: Made) -> None:
    assert stand_in(made.device, made.device.identity()) is made.device
    threads = Device("other", "onnxruntime", "CPUExecutionProvider", 64, ("float",), 1, (40, 41))
    assert stand_in(threads, {}).threads == 1 and not stand_in(threads, {}).affinity
