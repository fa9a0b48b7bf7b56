"""Runs without shared weights: finalists start anew, and whoever would read them does without."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from vitpareto.search.config import RunConfig, load_config
from vitpareto.search.dry_run import plan
from vitpareto.search.run.assets import Run
from vitpareto.search.run.budget import allot
from vitpareto.search.run.inheriting import READY
from vitpareto.search.run.opening import open_run
from vitpareto.search.run.stage import Stage
from vitpareto.search.store.atomic_files import read_json, write_json
from vitpareto.search.store.run_folder import RunFolder, RunPaths
from vitpareto.spaces.errors import ConfigError, RunError

from ..conftest import invoke
from .digits_run import digits_run


def test_without_shared_weights_nothing_is_inherited() -> None:
    config = RunConfig.model_validate({"space": "digits", "supernet": {"epochs": 0}})
    assert not config.has_supernet and not config.finish.inherit
    with pytest.raises(ConfigError, match=r"finish.inherit: there is nothing to inherit where"):
        load_config("digits", ["supernet.epochs=0", "finish.inherit=true"])
    with pytest.raises(ConfigError, match="nothing could score: supernet"):
        load_config("digits", ["supernet.epochs=0", "forecast.candidates=0"])
    started = {"space": "digits", "start": {"model": "vit"}, "supernet": {"epochs": 0}}
    assert RunConfig.model_validate(started).finish.inherit, "from the start"


KEPT = ("config", "space", "environment", "catalog", "images", "pixels", "cost_model", "teacher")


@pytest.fixture(scope="module")
def without(run_file: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without shared weights, with device and teacher of another."""
    folder = tmp_path_factory.mktemp("without")
    raw = yaml.safe_load(run_file.read_text())
    raw |= {"supernet": {"epochs": 0}, "proxy": {"epochs": 1, "short_steps": [3], "seeds": 1}}
    (folder / "run.yaml").write_text(yaml.safe_dump(raw))
    before, paths = RunPaths(finished), RunPaths(folder / "run")
    paths.path.mkdir()
    for name in KEPT:
        shutil.copy(getattr(before, name), getattr(paths, name))
    stages = read_json(before.stages)
    done = {name: stages[name] for name in (Stage.DATA, Stage.CALIBRATION, Stage.TEACHER)}
    write_json(paths.stages, done)
    result = invoke("search", folder / "run.yaml", "--run-dir", paths.path, "--resume")
    assert result.exit_code in (0, 3), result.output
    return paths.path


@pytest.mark.slow
@pytest.mark.onnx
def test_a_run_without_a_supernet_has_all_but_that(without: Path) -> None:
    paths = RunPaths(without)
    assert not paths.supernet.exists()
    assert "supernet" not in read_json(paths.stages)
    assert [row["name"] for row in read_json(paths.progress)["stages"]].count("supernet") == 0
    assert "of 9: reference" in paths.log.read_text()
    assert len(list(paths.pareto.glob("*/manifest.json"))) == 2
    with pytest.raises(RunError, match="has no shared weights"):
        Run(RunFolder(without, lock=False)).ensure_supernet()


@pytest.mark.slow
@pytest.mark.onnx
def test_a_reference_that_learned_nothing_has_no_accuracy(without: Path) -> None:
    paths = RunPaths(without)
    rows = json.loads(paths.reference.read_text())
    assert [row["name"] for row in rows] == ["largest, float32", "largest, PyTorch"]
    assert not any("accuracy" in name for row in rows for name in row)
    assert all(row["latency_ms"] > 0 for row in rows)
    report = paths.report.read_text()
    assert "as fast as the largest network of the space in float32" in report
    assert "Squares are" not in report


@pytest.mark.slow
@pytest.mark.onnx
def test_proxy_does_without(without: Path) -> None:
    file = without.parent / "run.yaml"
    result = invoke("proxy", file, "--run-dir", without, "-n", "6", "--json")
    assert result.exit_code in (0, 3), result.output
    assert "inherited" not in read_json(RunPaths(without).proxy)


@pytest.mark.onnx
@pytest.mark.slow
def test_ladder_does_without(without: Path) -> None:
    result = invoke("ladder", without)
    assert result.exit_code in (0, 3), result.output
    names = [row["name"] for row in read_json(RunPaths(without).ladder)]
    assert "original" in names and "linear attention" in names
    assert not RunPaths(without).supernet.exists()


@pytest.fixture
def short(space_file: Path, tmp_path: Path) -> RunConfig:
    """A run whose budget is too short for a supernet."""
    return digits_run(space_file, tmp_path, "7min", supernet={"random": 8, "batch_size": 8})


def test_a_budget_decides_against_a_supernet_at_once_and_for_good(
    short: RunConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    with open_run(short, path, resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        allot(run, Stage.CALIBRATION)
        found = read_json(folder.budget)["chosen"]["supernet"]
        wanted = {"supernet.epochs": 0, "finish.inherit": False, "finish.lr": run.config.proxy.lr}
        assert found["values"] == wanted
        assert f"fewer than {READY} passes" in found["why"]
        first = run.config
        assert not first.has_supernet and first.finish.lr == first.proxy.lr
    with open_run(short, path, resume=True) as folder, Run(folder) as run:
        assert run.config == first
        allot(run, Stage.SUPERNET)
        assert run.config == first
    with pytest.raises(ConfigError, match="nothing to inherit"):
        open_run(short.with_values({"finish.inherit": True}), path, resume=True)
    given = short.with_values({"finish.lr": 1e-2})
    with open_run(given, path, resume=True) as folder:
        again = load_config(folder.config)
        assert again.finish.lr == 1e-2 and not again.has_supernet


def test_the_dry_run_of_a_short_budget_has_no_supernet(short: RunConfig, tmp_path: Path) -> None:
    planned = plan(short, tmp_path / "run")
    assert "supernet" not in planned.work and "supernet" not in planned.seconds
    assert planned.budget["supernet.epochs"] == 0
    assert planned.budget["finish.inherit"] is False
    assert planned.disk_mb["supernet"] == 0.0
