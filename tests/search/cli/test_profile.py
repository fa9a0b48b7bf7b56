"""`vitpareto profile`: a model by any name, a run and its report, and errors in one line."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from vitpareto.cost_models import Device, workload
from vitpareto.search.report.facts import gather
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import VitParetoError

from ..conftest import invoke

pytestmark = pytest.mark.onnx
KEYS = ["operator_classes", "accounted", "sub_blocks", "tensors", "peak_mb"]


def told(*words: str | Path) -> dict:
    result = invoke("profile", *words, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    half = found.pop("fp16", [])
    assert bool(half) == ("--fp16" in words) and not any(row["overflows"] for row in half)
    assert list(found) in (KEYS, [*KEYS, "energy_mj"])
    assert sum(row["share"] for row in found["operator_classes"]) == pytest.approx(1)
    peak = found["peak_mb"]
    assert list(peak) == ["naive", "reused", "reordered"]
    assert peak["naive"] >= peak["reused"] >= peak["reordered"] > 0
    return found


@pytest.fixture
def candidate(space: SearchSpace) -> Candidate:
    return space.largest()


def test_a_candidate_in_json_and_yaml(candidate: Candidate, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(candidate.to_json())
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(candidate.to_dict()))
    found = told(tmp_path / "c.json")
    assert sum(row["macs"] for row in found["sub_blocks"]) == workload(candidate).macs
    assert found["accounted"] > 0.8
    lines = invoke("profile", tmp_path / "c.yaml").stdout.splitlines()
    assert lines[0].startswith(f"{candidate.key} on cpu-1t (onnxruntime ")
    (first,) = [line for line in lines if line.startswith("Change first: ")]
    longest = max(found["sub_blocks"], key=lambda row: row["ms"])["name"]
    assert longest.split(".")[0] in first or "blocks like" in first
    for row in found["sub_blocks"]:
        assert sum(row["name"] in line.split() for line in lines) >= 1, row["name"]
    for words in ("time by kind of operator", "attention map", "the best order of kernels"):
        assert words in "\n".join(lines)


def test_a_model_of_timm_and_an_exported_one(candidate: Candidate, tmp_path: Path) -> None:
    found = told("test_vit")
    heads = [t for t in found["tensors"] if t["name"] == "attention map"]
    assert heads and all(t["shape"][-1] == t["shape"][-2] == 101 for t in heads)
    (tmp_path / "c.json").write_text(candidate.to_json())
    done = invoke("export", tmp_path / "c.json", "--random-weights", "--out", tmp_path / "app")
    assert done.exit_code == 0, done.output
    file = tmp_path / "app" / candidate.key / "model.onnx"
    for source in (file, file.parent):
        weights = sum(row["weight_bytes"] for row in told(source)["sub_blocks"])
        assert 0.6 < weights / file.stat().st_size < 1


def test_a_run_keeps_profiles_and_shows_them(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    found = told(run, "--pick", "A", "--fp16")
    rows = json.loads((run / "profiles.json").read_text())
    assert {row["key"] for row in rows} == {
        path.name for path in (run / "pareto").iterdir() if path.is_dir()
    }
    first = gather(RunFolder(run, lock=False)).delivered[0].key
    kept = next(row for row in rows if row["key"] == first)
    assert kept["sub_blocks"] == found["sub_blocks"] and "tensors" not in kept
    page = (run / "report.html").read_text()
    assert "Where time and memory go" in page and "activations" in page
    assert "Where time and memory go" not in (finished / "report.html").read_text()


def test_bad_input_is_one_line(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"no")
    (tmp_path / "c.json").write_text(candidate.to_json())
    (tmp_path / "two.json").write_text(json.dumps([candidate.to_dict()] * 2))
    (tmp_path / "no.json").write_text('{"kind": "cat"}')
    (tmp_path / "text.json").write_text("cat")
    (tmp_path / "empty").mkdir()
    board = Device.load("cpu-1t").to_dict() | {"provider": "ACLExecutionProvider"}
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(board))
    monkeypatch.chdir(tmp_path)
    bad = {
        ("photo.jpg",): "photo.jpg: no model: need a run folder, a delivered model, a candidate",
        ("gone.json",): "gone.json: no such file or folder: need a run folder",
        ("gone/model.onnx",): "gone/model.onnx: no such file or folder: need a run folder",
        ("two.json",): "two.json: holds 2 candidates, and one can be looked into",
        ("no.json",): "no.json: [0]: candidate: 'architecture' must be given",
        ("text.json",): "text.json: not JSON: ",
        ("empty",): "empty: no config.json in it",
        ("test_vti",): "no timm model is named 'test_vti'. Did you mean 'test_vit'?",
        ("resnet18",): "no converter for timm.ResNet",
        ("c.json", "--device", "cpu1t"): "unknown device 'cpu1t'. Did you mean 'cpu-1t'?",
        ("c.json", "--device", "cuda"): "device 'cuda' needs CUDAExecutionProvider, this ONNX",
        ("c.json", "--device", "board.yaml"): "needs ACLExecutionProvider, this ONNX Runtime has",
        ("c.json", "--device", "torch-1t"): "its kernels take; of the presets cpu-1t, cpu-2t, ",
    }
    for words, message in bad.items():
        error = invoke("profile", *words).exception
        assert isinstance(error, VitParetoError), (words, error)
        assert message in str(error) and "\n" not in str(error), (words, str(error))


def test_a_model_for_another_machine_is_not_timed_here(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    here = Device.identity
    monkeypatch.setattr(Device, "identity", lambda self: here(self) | {"processor": "another"})
    folder = next(path for path in (run / "pareto").iterdir() if path.is_dir())
    for source in (run, folder):
        error = invoke("profile", source).exception
        assert "which is not this machine as it is now: --device" in str(error)
    assert not (run / "profiles.json").exists()
