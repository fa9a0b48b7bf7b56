"""A search for a device that is another machine promises nothing that only this one has shown."""

import json
import shutil
from pathlib import Path

import pytest

from vitpareto.cost_models import CostModel
from vitpareto.search.delivery.manifest import manifests
from vitpareto.search.run.results import load_run

from .conftest import invoke

WORDS = "predicted for cpu-1t, not verified on it"


@pytest.mark.slow
@pytest.mark.onnx
def test_a_search_for_another_machine(finished: Path, run_file: Path, tmp_path: Path) -> None:
    model = CostModel.load(finished / "cost_model.json")
    model.identity = {**model.identity, "processor": "Cortex-A78", "system": "Linux aarch64"}
    model.save(tmp_path / "phone.json")
    run, given = tmp_path / "run", f"device.cost_model={tmp_path / 'phone.json'}"
    result = invoke("search", run_file, "--run-dir", run, "--set", given)
    assert result.exit_code in (0, 3), result.output  # so little training may leave a check unmet
    delivered = manifests(run / "pareto")
    assert all(m.is_predicted and m.identity["processor"] == "Cortex-A78" for m in delivered)
    assert (result.exit_code == 0) == all(not m.broken for m in delivered)
    assert result.output.count(WORDS) >= len(delivered)
    assert "processor is" in (run / "log.txt").read_text()
    report = (run / "report.html").read_text()
    assert WORDS in report and "Cortex-A78" in report and "--kit" in report
    assert "not measured" in report and not (run / "reference.json").exists()
    shutil.copy(finished / "reference.json", run)  # as releases wrote that timed it here
    assert invoke("report", run).exit_code == 0
    assert "PyTorch eager" in (finished / "report.html").read_text()
    assert "PyTorch eager" not in (run / "report.html").read_text()
    assert all(row["state"] == WORDS for row in load_run(run).results())
    assert load_run(run).best().state == WORDS
    again = invoke("verify", run, "--json")
    told = json.loads(again.stdout)
    assert all(not row["verified"] and row["status"].startswith(WORDS) for row in told)
    refused = invoke("ladder", run)
    assert "is for cpu-1t, another machine" in str(refused.exception)
