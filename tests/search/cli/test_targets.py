"""One table: models by runtime, of a run, of candidates and of a space."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.modules import input_shape
from vitpareto.cost_models.runtime_spec import RUNTIMES, find_runtime
from vitpareto.cost_models.runtimes import available
from vitpareto.search.delivery import targets
from vitpareto.search.delivery.build import Build
from vitpareto.search.delivery.export import random_build
from vitpareto.search.delivery.handover import device_of
from vitpareto.search.report.facts import gather
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import SearchSpace

from ..conftest import invoke

pytestmark = pytest.mark.onnx


def table(*words: str | Path) -> dict[tuple[str, str], dict[str, object]]:
    """Rows by model and runtime."""
    result = invoke("targets", *words, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    return {(row["model"], row["runtime"]): row for row in rows}


@pytest.mark.slow
def test_the_models_of_a_run_in_every_runtime(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    result = invoke("targets", run)
    assert result.exit_code == 0, result.output
    told = json.loads((run / "targets.json").read_text())
    rows = {(row["model"], row["runtime"]): row for row in told}
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + len(rows)
    assert lines[0].split()[:3] == ["model", "runtime", "version"]
    missing = lines[0].index("precision, or what is missing")
    assert all(line[missing - 2 : missing] == "  " != line[missing : missing + 2] for line in lines)
    delivered = {path.name for path in (run / "pareto").iterdir() if path.is_dir()}
    assert {row["key"] for row in rows.values()} == delivered
    assert {name for _, name in rows} == {*RUNTIMES}
    for (letter, name), row in rows.items():
        if available(device_of(name)):
            assert row["converts"] is None and " install '" in str(row["missing"])
            continue
        if find_runtime(name).stand_in:
            assert row["converts"] and row["runs"] is row["latency_ms"] is None
            assert str(row["missing"]).startswith("converted, not run here: its answers are by ")
            continue
        assert row["converts"] and row["runs"] and not row["missing"], row
        assert row["latency_ms"] > 0 and row["size_mb"] > 0 and row["predicted_ms"] is None
        assert (
            row["precision"] == "float32"
            or "16-bit" in row["precision"]
            or "int8" in row["precision"]
        )
        if name == "onnxruntime":
            manifest = json.loads((run / "pareto" / row["key"] / "manifest.json").read_text())
            assert row["max_abs_difference"] == 0 and row["agreement"] == 1
            # Without what the delivered file says of its preprocessing.
            assert 0.5 < row["size_mb"] / manifest["metrics"]["size_mb"] <= 1
        assert row["agreement"] >= 0.75, (letter, name)
    page = (run / "report.html").read_text()
    assert "In other runtimes" in page and "litert" in page
    assert "In other runtimes" not in (finished / "report.html").read_text()
    assert len(gather(RunFolder(run, lock=False)).targets) == len(rows)


def test_a_space_and_candidates_with_random_weights(space_file: Path, tmp_path: Path) -> None:
    candidate = SearchSpace.from_yaml(space_file).largest()  # in float: random weights in 8 bits
    (tmp_path / "c.json").write_text(candidate.to_json())  # round in other ways elsewhere
    rows = table(tmp_path / "c.json")
    assert {model for model, _ in rows} == {candidate.key}
    found = rows[candidate.key, "torch"]
    assert found["max_abs_difference"] < 1e-3 and found["agreement"] == 1


def test_what_a_runtime_refuses_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason, and the others go on."""
    from vitpareto.search.cli.targets import _random

    pytest.importorskip("ai_edge_litert")
    from vitpareto.cost_models.tflite import operators

    monkeypatch.delitem(operators.OPERATORS, "Softmax")
    few = {name: RUNTIMES[name] for name in ("onnxruntime", "litert", "torch")}
    monkeypatch.setattr(targets, "RUNTIMES", few)
    candidate = SearchSpace.from_yaml("digits@16").largest()
    rows = {row.runtime: row for row in targets.try_targets([_random("x", candidate)])}
    row = rows["litert"]
    assert row.converts is False and row.runs is False and "operator Softmax" in row.missing
    assert rows["onnxruntime"].runs and rows["torch"].runs


def test_all_runtimes_are_timed_with_as_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: RUNTIMES[name] for name in ("onnxruntime", "torch")}
    monkeypatch.setattr(targets, "RUNTIMES", few)
    candidate = SearchSpace.from_yaml("digits@16").smallest()
    seen: list[Device] = []

    def build(device: Device) -> Build:
        seen.append(device)
        return random_build(device, candidate)

    images = np.zeros(input_shape(candidate, 2), np.float32)
    model = targets.Model("x", candidate, build, images)
    rows = targets.try_targets([model], replace(Device.load("cpu-1t"), batch=3))
    assert [(device.runtime, device.batch) for device in seen] == [("onnxruntime", 3), ("torch", 3)]
    assert all(row.runs and row.latency_ms and row.agreement == 1 for row in rows)


def test_precision_is_what_kernels_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compiled:
        def __init__(self, **kernels: int) -> None:
            self.counts = kernels

        def kernels(self) -> dict[str, int]:
            return self.counts

    spec = RUNTIMES["onnxruntime"]
    assert targets.executed(spec, Compiled(MatMulInteger=3, Add=1)) == "int8 in 3 of 4 kernels"
    assert targets.executed(spec, Compiled(MatMul=3)) == "float32"
    openvino = RUNTIMES["openvino"]
    assert targets.executed(openvino, Compiled(**{"MatMul:bf16": 2})) == "16-bit floats"


def test_what_is_not_there_is_refused() -> None:
    result = invoke("targets", "digts")
    assert "unknown space 'digts'. Did you mean 'digits'?" in str(result.exception)
    assert Device.load("cpu-1t").runtime == targets.ORIGIN
