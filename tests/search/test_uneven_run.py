"""A run that trades and limits the balanced accuracy on uneven classes, from folder to report."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from vitpareto.search.cli.text import choice_lines, model_lines, model_table
from vitpareto.search.delivery.artifact import Artifact
from vitpareto.search.delivery.manifest import manifests
from vitpareto.search.delivery.pick import pick_model
from vitpareto.search.run.results import load_run
from vitpareto.search.scoring.evaluation_log import read_evaluations
from vitpareto.spaces.errors import RunError

from .conftest import invoke

pytestmark = [pytest.mark.slow, pytest.mark.onnx]
GOAL = "balanced_accuracy"
COUNTS = {0: 60, 1: 12, 2: 24}  # images by digit
NAMES = {0: "the frequent one", 1: "<b>rare & bold", 2: "übrig geblieben"}


@pytest.fixture(scope="module")
def settings(run_file: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a run whose device was measured by another one."""
    root = tmp_path_factory.mktemp("uneven")
    digits = load_digits()
    for label, count in COUNTS.items():
        (root / NAMES[label]).mkdir()
        for i, image in enumerate(digits.images[digits.target == label][:count]):
            pixels = Image.fromarray((image * 15).astype(np.uint8))
            pixels.save(root / NAMES[label] / f"{i}.png")
    changes = (
        *("data.name=folder", f"data.root={root}", "data.balance=weight"),
        f"device.cost_model={finished / 'cost_model.json'}",
        *(f"search.objectives=[{GOAL}, latency_ms]", f"search.limits={{{GOAL}: 0.05}}"),
        *("search.sampler=surrogate", "finish.finalists=1", "finish.epochs=2"),
    )
    return [str(run_file), *(word for change in changes for word in ("--set", change))]


@pytest.fixture(scope="module")
def run(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "uneven"
    result = invoke("search", *settings, "--run-dir", path)
    assert result.exit_code in (0, 3), result.output
    assert re.search(r"model +balanced +test", result.output)
    return path


def test_what_is_traded_is_forecast_promised_measured_and_checked(run: Path) -> None:
    scored, _ = read_evaluations(run / "evaluations.jsonl")
    for e in scored:
        assert e.metrics[f"{GOAL}_low"] < e.metrics[GOAL] < e.metrics[f"{GOAL}_high"]
        assert e.metrics["accuracy"] != e.metrics[GOAL]
    (manifest,) = manifests(run / "pareto")
    assert manifest.goal == GOAL and manifest.limits == {GOAL: 0.05}
    for part in (manifest.promised, manifest.trained, manifest.measured(), manifest.test):
        low, share, high = part.interval(GOAL)
        assert 0 <= low <= share <= high <= 1
    checks = {check.name for check in manifest.checks}
    assert {f"limit of {GOAL}", "balanced accuracy of the artifact"} <= checks
    assert "accuracy of the artifact" not in checks


def test_classes_are_counted_as_the_artifact_answers(run: Path) -> None:
    (found,) = load_run(run).models
    manifest = found.manifest
    for rows, accuracies in (
        (manifest.classes, manifest.measured()),
        (manifest.test_classes, manifest.test),
    ):
        assert rows and [row.name for row in rows] == list(manifest.preprocessing.class_names)
        assert set(NAMES.values()) == {row.name for row in rows}
        images = sum(row.images for row in rows)
        right = sum(row.answers.get(str(i), 0) for i, row in enumerate(rows))
        assert right / images == pytest.approx(accuracies.accuracy)
        assert np.mean([row.recall for row in rows]) == pytest.approx(accuracies.balanced_accuracy)
    assert Artifact.load(found.folder, manifest.device).candidate.key == manifest.key


def test_the_choice_goes_by_it(run: Path) -> None:
    results = load_run(run)
    (manifest,) = manifests(run / "pareto")
    assert pick_model([manifest], "best").key == results.best(**{GOAL: 0.01}).key
    value = manifest.measured().balanced_accuracy
    assert f"{value:.1%}" in model_lines([manifest])[1]
    for lines in (model_lines([manifest]), choice_lines([manifest], manifest)):
        assert lines[0].split()[1] == "balanced"
    assert "| model | test balanced accuracy (95% interval) |" in model_table([manifest])[0]
    row = results.results()[0]
    assert row[GOAL] == value and f"test_{GOAL}" in row


def test_the_report_speaks_of_it(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "balanced accuracy, %" in page and "Which classes are confused" in page
    assert "validation balanced accuracy" in page
    assert NAMES[1] not in page and "&lt;b&gt;rare &amp; bold" in page


def test_verified_again_and_resumed(run: Path, settings: list[str]) -> None:
    kept = {p: p.read_bytes() for p in run.glob("pareto/*/*")}
    result = invoke("search", *settings, "--run-dir", run, "--resume")
    assert result.exit_code in (0, 3), result.output
    assert {p: p.read_bytes() for p in run.glob("pareto/*/*")} == kept
    result = invoke("verify", run)
    assert "balanced accuracy of the artifact" in result.output, result.output


def test_scores_of_a_release_that_knew_none_are_not_gone_on_with(
    run: Path, settings: list[str], tmp_path: Path
) -> None:
    old = Path(shutil.copytree(run, tmp_path / "old"))
    log = old / "evaluations.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        line["metrics"] = {n: v for n, v in line["metrics"].items() if "balanced" not in n}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = invoke("search", *settings, "--run-dir", old, "--resume")
    assert isinstance(result.exception, RunError)
    assert f"cannot be resumed with {GOAL}" in str(result.exception)
