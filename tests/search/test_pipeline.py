"""The whole job on the smallest space that has everything, in seconds."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from vitpareto.search.cli.commands import cli
from vitpareto.search.config import load_config
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery.manifest import manifests
from vitpareto.search.scoring.evaluation_log import read_evaluations
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import Candidate
from vitpareto.spaces.errors import RunError

from .conftest import invoke

pytestmark = pytest.mark.onnx


def test_everything_is_in_the_folder(finished: Path) -> None:
    names = {
        *("config.yaml", "space.yaml", "environment.json", "stages.json", "log.txt"),
        *("teacher.safetensors", "cost_model.json", "supernet.safetensors"),
        *("study.journal", "evaluations.jsonl", "shortlist.json", "report.html", "pareto.png"),
    }
    assert names <= {path.name for path in finished.iterdir()}
    for folder in finished.glob("pareto/*"):
        files = {path.name for path in folder.iterdir()}
        assert files == {
            *("candidate.json", "model.onnx", "model.safetensors", "manifest.json"),
            "predict.py",
        }
    stages = json.loads((finished / "stages.json").read_text())
    assert stages.keys() == {
        *("data", "calibration", "teacher", "supernet", "forecast", "search", "shortlist"),
        *("finishing", "verification", "reference"),
    }
    page = (finished / "report.html").read_text()
    assert all(folder.name in page for folder in finished.glob("pareto/*"))


def test_artifacts_give_in_onnx_runtime_what_the_manifest_says(finished: Path) -> None:
    folder = RunFolder(finished, lock=False)
    data = load_data(load_config(folder.config).data, 16)
    split = data.split("validation")
    for manifest in manifests(folder.pareto):
        path = folder.pareto / manifest.key
        assert Candidate.from_json((path / "candidate.json").read_text()).key == manifest.key
        model = onnx.load(path / "model.onnx")
        about = {p.key: p.value for p in model.metadata_props}
        assert json.loads(about["class_names"]) == list(data.class_names)
        assert json.loads(about["mean"]) == pytest.approx(data.mean)
        session = ort.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
        logits = [session.run(None, {"images": x[None].numpy()})[0] for x in split.images]
        found = (np.concatenate(logits).argmax(1) == split.labels.numpy()).mean()
        assert found == pytest.approx(manifest.measured().accuracy)
        parity = manifest.checks[0]
        assert parity.name in ("logits against torch", "agreement with torch")
        assert parity.holds
        assert manifest.test.accuracy_low < manifest.test.accuracy <= manifest.test.accuracy_high


def test_resume_does_nothing_again_and_keeps_everything(finished: Path, run_file: Path) -> None:
    kept = {p: p.read_bytes() for p in finished.glob("pareto/*/*")}
    before = read_evaluations(finished / "evaluations.jsonl")
    result = invoke("search", run_file, "--run-dir", finished, "--resume", "--json")
    assert result.exit_code in (0, 3), result.output
    assert {p: p.read_bytes() for p in finished.glob("pareto/*/*")} == kept
    assert read_evaluations(finished / "evaluations.jsonl") == before
    assert len(json.loads((finished / "test_readings.json").read_text())) == 1


def test_resume_after_losing_half_of_the_evaluations(
    finished: Path, run_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "pareto")
    log = run / "evaluations.jsonl"
    whole = [e.key for e in read_evaluations(log)[0]]
    raw = log.read_bytes()
    log.write_bytes(raw[: len(raw) // 2])
    result = invoke("search", run_file, "--run-dir", run, "--resume")
    assert result.exit_code in (0, 3), result.output
    assert [e.key for e in read_evaluations(log)[0]] == whole
    assert {p.name for p in run.glob("pareto/*")} == {p.name for p in finished.glob("pareto/*")}
    readings = json.loads((run / "test_readings.json").read_text())
    assert [reading["forced"] for reading in readings] == [False, True]


def test_verify_finds_a_changed_byte(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    artifact = sorted(run.glob("pareto/*/model.onnx"))[0]
    raw = bytearray(artifact.read_bytes())
    raw[len(raw) // 2] ^= 1
    artifact.write_bytes(raw)
    result = invoke("verify", run, "--json")
    assert result.exit_code == 3
    reports = {r["key"]: r for r in json.loads(result.stdout)}
    (check,) = reports[artifact.parent.name]["checks"]
    assert (check["name"], check["holds"], check["found"]) == ("files", False, "model.onnx")
    others = [r for key, r in reports.items() if key != artifact.parent.name]
    assert others
    assert all(len(r["checks"]) > 1 and r["checks"][0]["holds"] for r in others)


def test_report_is_built_from_the_folder_alone(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "elsewhere"
    shutil.copytree(finished, run)
    (run / "report.html").unlink()
    (run / "pareto.png").unlink()
    assert invoke("report", run).exit_code == 0
    assert (run / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "report.html").stat().st_size > 10_000


def test_the_table_for_a_readme(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    _, header, rule, *rows = invoke("report", run, "--markdown").stdout.splitlines()
    assert {header.count("|"), rule.count("|"), *(row.count("|") for row in rows)} == {7}
    for row, m in zip(rows, manifests(finished / "pareto"), strict=True):
        assert f"{m.test.accuracy:.1%}" in row
        assert f"{m.measured().calibrated_ms:.3f} ms" in row


@pytest.mark.parametrize("pick", ["fastest", "best", "knee", "good", "A"])
def test_export_of_a_run(finished: Path, tmp_path: Path, pick: str) -> None:
    result = invoke("export", finished, "--pick", pick, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    written = Path(result.stdout.strip())
    delivered = manifests(finished / "pareto")
    (chosen,) = [m for m in delivered if m.key == written.parent.name]
    if pick in ("fastest", "A"):
        assert chosen == delivered[0]
    (marked,) = [line for line in result.stderr.splitlines() if line.startswith("->")]
    assert chosen.key in marked and f"{chosen.measured().accuracy:.1%}" in marked
    assert all(m.key in result.stderr for m in delivered)
    if pick == "best":
        assert chosen.measured().accuracy == max(m.measured().accuracy for m in delivered)
    with pytest.raises(RunError, match="exists already"):
        CliRunner().invoke(
            cli,
            ["export", str(finished), "--pick", pick, "--out", str(tmp_path)],
            catch_exceptions=False,
        )


def test_export_with_random_weights(space, tmp_path: Path) -> None:
    candidates = tmp_path / "candidates.json"
    sampled = space.sample(3, seed=5)
    candidates.write_text(json.dumps([c.to_dict() for c in sampled]))
    result = invoke(
        *("export", candidates, "--random-weights", "--runtime", "onnxruntime"),
        *("--out", tmp_path / "out", "--json"),
    )
    assert result.exit_code == 0, result.output
    for item, candidate in zip(json.loads(result.stdout), sampled, strict=True):
        assert item["key"] == candidate.key
        session = ort.InferenceSession(item["path"], providers=["CPUExecutionProvider"])
        assert session.run(None, {"images": np.zeros((1, 1, 16, 16), np.float32)})[0].shape == (
            1,
            10,
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "--set", "data.seed=1"], "cannot be resumed with another data"),
        (["--resume", "--seed", "1"], "cannot be resumed with another search.seed"),
        ([], "continue it with --resume"),
    ],
)
def test_a_run_of_something_else_is_refused(
    finished: Path, run_file: Path, words: list[str], message: str
) -> None:
    command = ["search", str(run_file), "--run-dir", str(finished), *words]
    with pytest.raises(RunError, match=message):
        CliRunner().invoke(cli, command, catch_exceptions=False)


@pytest.mark.parametrize(
    ("limits", "missed"),
    [
        ("{latency_ms: 0.000001}", "latency_ms"),
        pytest.param("{accuracy: 0.9999}", "accuracy", marks=pytest.mark.slow),
    ],
)
def test_limits_that_nothing_keeps_end_with_the_nearest_candidate_marked(
    finished: Path, run_file: Path, tmp_path: Path, limits: str, missed: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "pareto")
    for name in ("evaluations.jsonl", "study.journal"):
        (run / name).unlink()
    command = ["search", run_file, "--run-dir", run, "--resume", "--json"]
    result = invoke(*command, "--set", f"search.limits={limits}")
    assert result.exit_code == 3, result.output
    (manifest,) = json.loads(result.stdout)
    assert not manifest["verified"]
    (broken,) = [c for c in manifest["checks"] if c["name"] == f"limit of {missed}"]
    assert not broken["holds"]
    assert re.search(rf"the nearest candidate, \w+, has {missed} \S+, off its limit", result.stderr)
    page = (run / "report.html").read_text()
    assert f"A does not keep the limits: it has {missed}" in page


def test_time_and_memory_of_each_stage(finished: Path, run_file: Path) -> None:
    printed = invoke("search", run_file, "--run-dir", finished, "--resume").stdout
    stages = json.loads((finished / "stages.json").read_text())  # with the moments of the resuming
    assert all(found["seconds"] > 0 and found["peak_memory_mb"] > 50 for found in stages.values())
    for name, found in stages.items():
        (line,) = [line for line in printed.splitlines() if line.startswith(name)]
        assert line.split()[1:3] == [f"{found['seconds']:.1f}", f"{found['peak_memory_mb']:,}"]
