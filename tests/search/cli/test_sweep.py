"""`vitpareto sweep`: real variants of a small model, a device file, and what became of it."""

import json
from pathlib import Path

import pytest

from vitpareto.cost_models import Device
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import VitParetoError

from ..conftest import invoke

pytestmark = pytest.mark.onnx


def told(*words: str | Path) -> dict:
    result = invoke("sweep", *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_sweep_and_the_device_file_it_leaves(space: SearchSpace, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(space.smallest().to_json())
    mine, record = tmp_path / "mine.yaml", tmp_path / "mine.sweep.json"
    over = ("--over", "arena,batch,size", "--budget-s", "5", "--limit-ms", "1000")
    found = told(tmp_path / "c.json", *over, "--save", mine)
    rows = {(row["over"], row["value"]): row for row in found["rows"]}
    assert {("", ""), ("arena", False), ("batch", 2)} <= rows.keys()
    sizes = [value for name, value in rows if name == "size"]
    assert sizes and all(size % 4 == 0 for size in sizes)
    for row in found["rows"]:
        assert row["low_ms"] <= row["latency_ms"] <= row["high_ms"]
        assert row["images_per_s"] == pytest.approx(row["batch"] / row["latency_ms"] * 1e3)
    assert rows["", ""]["memory_mb"] > 0 and found["best_batch"] >= 1
    device = Device.load(mine)
    assert (
        set(dict(device.options)) <= {"arena"} and device.recipes == Device.load("cpu-1t").recipes
    )
    kept = json.loads(record.read_text())
    ratios = kept["settings"]["arena"]["ratios"]
    for other in ratios:
        ratios[other] = [0.01, 0.01, 0.01]  # as if it had been a hundred times faster
    record.write_text(json.dumps(kept))
    lines = invoke(
        "sweep", tmp_path / "c.json", "--over", "arena", "--budget-s", "5", "--device", mine
    )
    assert "SLOWER than when it was chosen: arena" in lines.stdout
    record.write_text("{}")
    error = invoke("sweep", tmp_path / "c.json", "--device", mine, "--over", "arena").exception
    assert "mine.sweep.json: not what `vitpareto sweep --save` wrote" in str(error)


def test_what_cannot_be_swept(space: SearchSpace, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(space.smallest().to_json())
    bad = {
        ("--over", "bach"): "unknown sweep 'bach'. Did you mean 'batch'?",
        ("--over", "layout"): "unknown sweep 'layout'. Known: arena, batch, memory_pattern, ",
        ("--device", "cuda"): "device 'cuda' needs CUDAExecutionProvider",
        ("--save", "mine.json"): "--save: need a file that ends in .yaml, got mine.json",
    }
    for words, message in bad.items():
        error = invoke("sweep", tmp_path / "c.json", *words).exception
        assert isinstance(error, VitParetoError) and message in str(error), (words, error)
