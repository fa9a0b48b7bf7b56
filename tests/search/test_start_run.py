"""A whole search from an own checkpoint, and starts that cannot be used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from vitpareto.search.config import RunConfig, load_config
from vitpareto.search.delivery.manifest import Manifest, read_manifests
from vitpareto.search.pipeline import search_candidates, steps_of
from vitpareto.search.report.facts import gather
from vitpareto.search.report.models import ladder
from vitpareto.search.run import choosing
from vitpareto.search.run.assets import Run
from vitpareto.search.run.choosing import chosen_before, finalists
from vitpareto.search.run.opening import open_run
from vitpareto.search.run.refreshing import refresh_of
from vitpareto.search.run.results import load_run
from vitpareto.search.run.stage import Stage
from vitpareto.search.scoring.cut_forecast import CutForecast
from vitpareto.search.scoring.evaluation_log import read_evaluations
from vitpareto.search.scoring.forecast import expit, logit
from vitpareto.search.scoring.lift import Lifted
from vitpareto.search.store.atomic_files import read_json, write_json
from vitpareto.search.store.run_folder import RunFolder, RunPaths
from vitpareto.search.training.teacher import predict
from vitpareto.spaces import Candidate
from vitpareto.spaces.errors import ConfigError, RunError, VitParetoError

from .conftest import invoke
from .own_vit import ARGS, SIZE, SPACE, Own, new_model, own, save_model
from .stage_files import without_file

__all__ = ["own"]

pytestmark = pytest.mark.onnx
TRAIN = {"epochs": 1, "batch_size": 128}


def run_of(own: Own, folder: Path, **sections: Any) -> Path:
    """A run file of few lines."""
    (folder / "space.yaml").write_text(SPACE)
    run = {
        "space": "space.yaml",
        "device": {"name": "cpu-1t", "calibrate_s": 3},
        "start": {"model": own.name, "adapt": {**TRAIN, "epochs": 2}},
        "forecast": {"candidates": 8, "steps": 5},
        "search": {"trials": 10, "sampler": "random", "limits": {"accuracy": 0.3}},
        "executor": {"threads": 1},
        "finish": {**TRAIN, "finalists": 2, "layers": 0.5, "ema": 0.9},
        **sections,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    return folder / "run.yaml"


@pytest.fixture(scope="module")
def searched(own: Own, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder, whose device was measured by another run."""
    folder = tmp_path_factory.mktemp("from a start")
    device = {"name": "cpu-1t", "cost_model": str(finished / "cost_model.json")}
    result = invoke("search", run_of(own, folder, device=device), "--run-dir", folder / "run")
    assert result.exit_code in (0, 3), result.output
    return folder / "run"


def test_every_stage_leaves_its_file(searched: Path) -> None:
    paths = RunPaths(searched)
    steps = steps_of(load_config(paths.config))
    stages = json.loads(paths.stages.read_text())
    idle = {Stage.CALIBRATION}  # done by another run
    assert list(stages) == [s.stage.value for s in steps if s.stage not in idle]
    assert not without_file(paths, [step.stage for step in steps])
    assert not paths.half_trained.exists()
    assert not paths.start_checkpoint.exists() and not paths.teacher_checkpoint.exists()
    start = stages["start"]
    assert start["accuracy_before"] <= start["accuracy"] and start["accuracy_probed"] > 0.5


def test_the_start_teaches_is_compared_with_and_gives_all_weights(searched: Path) -> None:
    run = Run(RunFolder(searched, lock=False))
    start = run.ensure_start()
    assert start is not None
    stages = json.loads(run.folder.stages.read_text())
    assert stages["teacher"]["accuracy"] == stages["start"]["accuracy"]
    validation = run.data.split("validation")
    logits = predict(start, validation.images)
    rows = json.loads(run.folder.reference.read_text())
    assert [row["name"] for row in rows] == ["start, float32", "start, PyTorch", "start, int8"]
    right = (logits.argmax(1) == validation.labels).float().mean().item()
    assert rows[0]["accuracy"] == pytest.approx(right, abs=0.005)
    assert rows[1]["accuracy"] == pytest.approx(rows[0]["accuracy"], abs=0.005)
    assert rows[2]["accuracy"] > right - 0.1 and rows[2]["size_mb"] < 0.6 * rows[0]["size_mb"]
    largest = Candidate.uncompressed(run.space.largest().architecture)
    with torch.no_grad():
        assert torch.allclose(run.inherited(largest)(validation.images[:8]), logits[:8], atol=1e-3)
    report = run.folder.report.read_text()
    assert "start, int8" in report and "the start in float32" in report
    assert load_run(searched).references() == rows
    facts = gather(RunFolder(searched, lock=False))
    both = "".join(ladder(replace(facts, ladder=[{**rows[0], "name": "original"}])))
    assert "original" in both and "start, int8" in both
    assert "".join(ladder(facts)).count("<table") == 1


def test_accuracies_are_those_forecast_of_finished_candidates(searched: Path) -> None:
    run = Run(RunFolder(searched, lock=False))
    examples, _ = read_evaluations(run.folder.short_trainings)
    assert len(examples) == 8
    whole, _ = read_evaluations(run.folder.whole_trainings)
    assert {e.key for e in whole} < {e.key for e in examples} and len(whole) == 3
    known = [*examples, run._start_as_example()]
    on_validation = CutForecast.fit(run._for_validation(known), run.assembled())
    forecast = Lifted.fit(on_validation, run._for_validation(whole))
    scored, _ = read_evaluations(run.folder.evaluations)
    for evaluation in scored[:3]:
        found = forecast(evaluation.candidate)
        assert found == pytest.approx({name: evaluation.metrics[name] for name in found}, rel=1e-3)


def test_the_start_is_an_example_of_itself(searched: Path) -> None:
    run = Run(RunFolder(searched, lock=False))
    examples, _ = read_evaluations(run.folder.short_trainings)
    (start,) = run._for_validation([run._start_as_example()])
    without = CutForecast.fit(run._for_validation(examples), run.assembled())
    off, less = (
        abs(forecast(start.candidate)["accuracy"] - start.metrics["accuracy"])
        for forecast in (without, run.ensure_forecast())
    )
    assert start.metrics["divergence"] == 0 and less < off


def test_finished_models_move_the_forecasts_of_the_others(searched: Path) -> None:
    folder = RunFolder(searched, lock=False)
    scored, _ = read_evaluations(folder.evaluations)
    refresh, own, logged = (
        refresh_of(folder, scored),
        own_models(searched),
        {e.key: e for e in scored},
    )
    assert refresh.models == len(own) > 0
    off = [logit(m.trained.accuracy) - logit(logged[m.key].metrics["accuracy"]) for m in own]
    lift = refresh.lifts["accuracy"]
    whole, _ = read_evaluations(folder.whole_trainings)
    told = [logit(logged[m.key].metrics["accuracy"]) for m in own]
    middle = sum(told) / len(told)  # where only the level counts
    moved = logit(lift(expit(middle))) - middle
    assert moved == pytest.approx(sum(off) / (len(off) + len(whole)), abs=1e-6)
    rows = load_run(searched).evaluations()
    for row, e in zip(rows, scored, strict=True):
        assert row["accuracy"] == pytest.approx(lift(e.metrics["accuracy"]))
        assert row["latency_ms"] == e.metrics["latency_ms"]
    report = (searched / "report.html").read_text()
    assert "and moved by what" in report and "Accuracy: forecast and finished" in report


def test_more_finalists_are_chosen_by_moved_forecasts(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was scored before stays, and a choice is made once."""
    # By predicted latencies: those that are measured of so little work may leave few on the front.
    monkeypatch.setattr(choosing, "corrected", lambda chosen, *_: chosen)
    path = tmp_path / "run"
    shutil.copytree(searched, path)
    before = (path / "evaluations.jsonl").read_text()
    moved = {row["key"]: row["accuracy"] for row in load_run(path).evaluations()}
    config = load_config(path / "config.yaml")
    with open_run(config, path, resume=True) as folder, Run(folder) as run:
        first = finalists(run)
        assert {m.key for m in own_models(path)} <= {e.key for e in first}
    config = config.with_values({"search.trials": 14, "finish.finalists": 4})
    with open_run(config, path, resume=True) as folder, Run(folder) as run:
        search_candidates(run)
        assert folder.evaluations.read_text().startswith(before)
        assert not chosen_before(run)
        chosen = finalists(run)
        assert len(chosen) > 2 and finalists(run) == chosen == chosen_before(run)
    known = [e for e in chosen if e.key in moved]
    assert known
    for e in known:
        assert e.metrics["accuracy"] == pytest.approx(moved[e.key])


def test_a_proxy_check_says_what_each_part_adds(searched: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(searched, run)
    result = invoke("proxy", searched.parent / "run.yaml", "--run-dir", run, "-n", 4)
    assert result.exit_code == 0, result.output
    figures = json.loads((run / "proxy.json").read_text())
    assert figures["recipe"]["finalists"] == 2 and not figures["short"]
    assert 0 <= figures["forecast"]["mean_error"] < 0.5
    assert figures["forecast"]["refreshed_by"] == len(own_models(searched))
    assert {"kendall_tau", "mean", "recovered"} <= figures["assembled"].keys()
    assert figures["raw"]["recovered"] in (0.0, None)
    raw, repaired = figures["raw"]["mean"], figures["repaired"]["mean"]
    assert repaired >= raw - 0.05
    assert figures["verdict"] in ("yes", "no") or "cannot tell with n=4" in figures["verdict"]
    assert (
        "tau of repaired weights" in result.output and "mean error of the forecast" in result.output
    )


def test_which_blocks_matter(searched: Path, tmp_path: Path) -> None:
    """The command and the report say the same."""
    result = invoke("library", "show", searched, "--json", "--png", tmp_path / "library.png")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["to_come"] == 0 and (tmp_path / "library.png").stat().st_size > 10_000
    report = (searched / "report.html").read_text()
    assert "Which blocks of the start matter" in report
    for block in found["blocks"]:
        assert 0 < block["alone_nats"] < 10
        assert {*block["explained"]} == {"2 of 4 heads", "64 of 128 hidden units"}
        assert all(f">{share:.0%}<" in report for share in block["explained"].values())
    assert sorted(filter(None, (b["place"] for b in found["blocks"]))) == [1]


def own_models(run: Path) -> list[Manifest]:
    """Delivered models that are as the search has scored them."""
    scored, _ = read_evaluations(RunPaths(run).evaluations)
    found = read_manifests(RunPaths(run).pareto)
    return [m for m in found if m.as_forecast and m.key in {e.key for e in scored}]


def test_a_finished_run_is_resumed_in_no_time(searched: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(searched, run)
    before = (run / "start.safetensors").read_bytes()
    kept = {path: path.stat().st_mtime_ns for path in run.glob("pareto/*")}
    result = invoke("search", searched.parent / "run.yaml", "--run-dir", run, "--resume")
    assert result.exit_code in (0, 3), result.output
    assert (run / "start.safetensors").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in run.glob("pareto/*")} == kept
    other = ("--set", "start.adapt.epochs=3")
    result = invoke("search", searched.parent / "run.yaml", "--run-dir", run, "--resume", *other)
    assert "cannot be resumed with another start" in str(result.exception)
    about = read_json(run / "environment.json")
    write_json(run / "environment.json", about | {"assembled": about["assembled"] - 1})
    result = invoke("search", searched.parent / "run.yaml", "--run-dir", run, "--resume")
    assert "another release scored its candidates in another way" in str(result.exception)
    for path in (run / "evaluations.jsonl", run / "short_trainings.jsonl"):
        path.unlink()
    config = load_config(run / "config.yaml")
    open_run(config, run, True).close()  # nothing that it holds was scored
    assert read_json(run / "environment.json")["assembled"] == about["assembled"]


def test_a_run_from_before_there_were_starts_is_not_continued(
    searched: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(searched, run)
    (run / "start.safetensors").rename(run / "supernet.safetensors")
    with pytest.raises(RunError, match="made by a release without `start`"):
        Run(RunFolder(run, lock=False)).ensure_start()


def test_the_key_of_earlier_releases() -> None:
    old = RunConfig.model_validate({"space": "digits", "supernet": {"pretrained": ""}})
    assert old == RunConfig(space="digits")
    old = RunConfig.model_validate({"space": "digits", "supernet": {"pretrained": "vit"}})
    assert old.start.model == "vit"
    with pytest.raises(ConfigError, match=r"start: which network\? Name it in start.model"):
        load_config("digits", ["start.checkpoint=w.pth"])


class Code:
    """Stands for any object in a checkpoint."""


@pytest.fixture(scope="module")
def bad(own: Own, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints that cannot be used."""
    folder = tmp_path_factory.mktemp("bad")
    raw = (own.folder / "model.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(raw[: len(raw) // 2])
    torch.save({"state_dict": own.weights, "args": Code()}, folder / "code.pth")
    torch.save(timm.create_model("test_resnet").state_dict(), folder / "other.pth")
    save_file({n: 0 * v for n, v in own.weights.items()}, folder / "zero.safetensors")
    save_file(new_model(10).state_dict(), folder / "guesses.safetensors")
    save_file(new_model(7).state_dict(), folder / "seven.safetensors")
    save_model(folder / "narrow", new_model(10, embed_dim=16), {**ARGS, "embed_dim": 16})
    save_model(folder / "wide", new_model(10, embed_dim=64), {**ARGS, "embed_dim": 64})
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["start.checkpoint={bad}/half.safetensors"], "half.safetensors: "),
        (["start.checkpoint={bad}/code.pth"], "code"),
        (["start.checkpoint={bad}/other.pth"], "do not fit"),
        (["start.checkpoint={bad}/nowhere.pth"], "no such file"),
        (["start.checkpoint={bad}/zero.safetensors"], "start"),
        (["start.checkpoint={bad}/guesses.safetensors", "start.adapt.epochs=0"], "by chance"),
        (["start.checkpoint={bad}/seven.safetensors", "start.adapt.epochs=0"], "does not know"),
        (["start.classes={bad}/names.txt"], "names.txt: cannot be read"),
        (["start.model=resnet19"], "resnet19"),
        (["start.model=test_vit"], "cannot be had"),
        (["start.model=local-dir:{bad}/nowhere"], "nowhere"),
        (["start.model=local-dir:{bad}/wide"], "the start is larger than the space"),
        (["start.model=local-dir:{bad}/narrow"], "the start is smaller than the space"),
        (["start.model=test_resnet"], "no converter for timm.ResNet"),
        (["start.mean=[0.5, 0.5]", "start.std=[0.5, 0.5]"], "1 channel"),
    ],
)
def test_bad_starts_are_found_before_anything_is_done(
    own: Own,
    bad: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    changes = [word for o in options for word in ("--set", o.format(bad=bad))]
    for words in (["--dry-run"], []):
        run = tmp_path / "run"
        result = invoke("search", run_of(own, tmp_path), "--run-dir", run, *changes, *words)
        assert isinstance(result.exception, VitParetoError), result.output
        said = str(result.exception)
        assert message in said and "\n" not in said
        assert not run.exists()


def test_a_space_is_derived_from_nothing(own: Own, tmp_path: Path) -> None:
    result = invoke(
        "search", run_of(own, tmp_path, space="auto", start={}, finish=TRAIN), "--dry-run"
    )
    assert "space: auto is derived from a start: name one in start.model" in str(result.exception)


def test_a_space_is_derived_from_the_start(own: Own, tmp_path: Path) -> None:
    shown = invoke("data", "show", run_of(own, tmp_path, space="auto"))
    assert f"Networks see {SIZE} x {SIZE} pixels" in shown.stdout, shown.output
    result = invoke("search", run_of(own, tmp_path, space="auto"), "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["space"]
    params = sum(p.numel() for p in own.model.parameters())
    assert found["largest_params"] == params and found["smallest_params"] < 0.8 * params


def test_a_derived_space_has_the_size_that_is_asked_for(own: Own, tmp_path: Path) -> None:
    result = invoke("data", "show", run_of(own, tmp_path, space=f"auto@{2 * SIZE}"))
    assert f"Networks see {2 * SIZE} x {2 * SIZE} pixels" in result.stdout, result.output
    result = invoke("search", run_of(own, tmp_path, space=f"auto@{2 * SIZE}"), "--dry-run")
    assert result.exit_code == 0, result.output
    for pixels, message in ((SIZE + 1, f"space: auto@{SIZE + 1}: "), ("big", "need pixels")):
        result = invoke("search", run_of(own, tmp_path, space=f"auto@{pixels}"), "--dry-run")
        assert isinstance(result.exception, VitParetoError), result.output
        assert message in str(result.exception) and "\n" not in str(result.exception)


def test_a_dry_run_says_how_good_the_start_is(own: Own, tmp_path: Path) -> None:
    result = invoke("search", run_of(own, tmp_path), "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["start_accuracy"] > 0.7
    assert list(found["work"])[2:5] == ["start", "teacher", "library"]
    assert found["seconds"]["start"] > 0 and found["seconds"]["library"] > 0
