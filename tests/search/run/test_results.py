"""A finished run from Python, as a notebook sees it."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

import vitpareto.search
from vitpareto.search import load_run
from vitpareto.search.delivery.manifest import read_manifest, write_manifest
from vitpareto.search.report import words
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces.errors import RunError, UnknownNameError

from ..conftest import invoke

pytestmark = pytest.mark.onnx


def test_the_names_are_there_and_nothing_heavy_comes_with_them() -> None:
    assert all(hasattr(vitpareto.search, name) for name in vitpareto.search.__all__)
    assert not hasattr(vitpareto.search, "nothing")
    code = (
        "import sys, vitpareto.search\n"
        "print(sorted({'torch', 'ray', 'optuna', 'onnx', 'pydantic', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_results_are_flat_rows(finished: Path) -> None:
    run = load_run(finished)
    for rows in (run.results(), run.evaluations()):
        assert rows
        for row in rows:
            assert all(isinstance(v, str | int | float | bool) for v in row.values())
        table = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(table, names)
        writer.writerows(rows)
    lines = (finished / "evaluations.jsonl").read_text().splitlines()
    keys = [json.loads(line)["key"] for line in lines]
    assert [row["key"] for row in run.evaluations()] == keys
    assert {row["key"] for row in run.results()} == {p.name for p in finished.glob("pareto/*")}
    assert any(row["front"] for row in run.evaluations())


def test_the_best_within_limits(finished: Path) -> None:
    run = load_run(finished)
    slowest = max(model.metrics["latency_ms"] for model in run.models)
    best = run.best(latency_ms=slowest)
    sure = [model for model in run.models if model.verified] or run.models
    assert best.metrics["accuracy"] == max(model.metrics["accuracy"] for model in sure)
    fastest = run.models[0]
    assert run.best(latency_ms=fastest.manifest.measured().calibrated_ms).key == fastest.key
    with pytest.raises(RunError, match=r"none of \d delivered models keeps latency_ms 1e-06"):
        run.best(latency_ms=1e-6)
    with pytest.raises(UnknownNameError, match="Did you mean 'latency_ms'"):
        run.best(latency=2)


def test_a_busy_machine_rules_out_no_model(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    usual = max(m.manifest.measured().calibrated_ms for m in load_run(run).models)
    for folder in run.glob("pareto/*"):
        manifest = read_manifest(folder)
        found = manifest.measured()
        names = ("latency_ms", "latency_p10_ms", "latency_p90_ms")
        twice = {name: found.at_calibrated_speed()[name] / 0.5 for name in names}
        slower = replace(found, **twice, speed=0.5)
        write_manifest(folder, replace(manifest, metrics=slower))
    busy = load_run(run)
    assert busy.best(latency_ms=1.01 * usual).key == load_run(finished).best().key
    for row in busy.results():
        assert row["latency_ms"] == pytest.approx(row["latency_read_ms"] / 2)
        assert row["latency_p10_ms"] <= row["latency_ms"] <= row["latency_p90_ms"]
        assert row["speed"] == 0.5
    with pytest.raises(RunError, match="keeps latency_ms"):
        busy.best(latency_ms=0.99 * min(row["latency_ms"] for row in busy.results()))


def test_verify_refreshes_what_everybody_reads(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for folder in run.glob("pareto/*"):
        manifest = read_manifest(folder)
        old = replace(manifest.measured(), latency_ms=777.0, speed=1.0)
        write_manifest(folder, replace(manifest, metrics=old))
    assert invoke("report", run).exit_code == 0
    stale = re.compile(r"(?<![\d.])777 ms")
    assert stale.search((run / "report.html").read_text())
    (run / "mistakes.json").unlink()
    done = invoke("verify", run, "--json")
    assert done.exit_code in (0, 3), done.output
    found = {row["key"]: row for row in load_run(run).results()}
    for report in json.loads(done.stdout):
        new = report["metrics"]
        *_, before, last = report["history"]
        assert before["at"] <= last["at"] and last.items() >= new.items()
        assert new["latency_ms"] < 777
        assert {name: found[report["key"]][name] for name in new} == new
    page = (run / "report.html").read_text()
    assert not stale.search(page) and page.count("times since") == len(found)
    assert all(words.ms(row["latency_ms"]) in page for row in found.values())
    assert json.loads((run / "mistakes.json").read_text())["validation"].keys() == found.keys()
    table = invoke("report", run, "--markdown").stdout
    assert all(f"{row['latency_ms']:.3f} ms" in table for row in found.values())


def test_verify_refreshes_nothing_where_another_process_works(
    finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = {p: p.read_bytes() for p in run.glob("pareto/*/*")}
    (run / "measurements.jsonl").unlink()  # as of an older release
    with RunFolder(run):
        done = invoke("verify", run)
    assert done.exit_code in (0, 3) and "nothing in it is refreshed" in done.stderr
    assert {p: p.read_bytes() for p in run.glob("pareto/*/*")} == before
    assert not (run / "measurements.jsonl").exists()


def test_the_module_and_the_artifact_are_the_same_model(finished: Path) -> None:
    for model in load_run(finished).models:
        network = model.model()
        assert not network.training
        size = model.candidate.architecture.input_size
        images = torch.rand(1, 1, size, size)
        with torch.inference_mode():
            wanted = network(images).numpy()
        session = ort.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": images.numpy()})
        exact = all(recipe == "float" for recipe in model.manifest.recipes.values())
        assert np.abs(found - wanted).max() < (1e-3 if exact else 0.3 * np.abs(wanted).max())


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        load_run(tmp_path)
