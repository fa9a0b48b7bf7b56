"""--dry-run: what is said before anything starts, against what then happened."""

import json
from pathlib import Path

import pytest

from vitpareto.cost_models import workload
from vitpareto.search.config import load_config
from vitpareto.search.dry_run import plan
from vitpareto.search.pipeline import steps_of
from vitpareto.search.run.assets import Run
from vitpareto.search.run.rates import Rates
from vitpareto.search.store.run_folder import RunFolder, RunPaths
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import VitParetoError

from .conftest import invoke

pytestmark = pytest.mark.onnx


def test_a_dry_run_says_what_happens_and_writes_nothing(run_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = invoke("search", run_file, "--run-dir", run, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert not run.exists()
    found = json.loads(result.stdout)
    assert found["space"]["size"] == SearchSpace.from_yaml(load_config(run_file).space).size
    assert sum(found["images"][name] for name in ("train", "search", "validation")) < 1797
    assert found["work"].keys() == found["seconds"].keys()
    printed = invoke("search", run_file, "--run-dir", run, "--dry-run").stdout
    for name, what in found["work"].items():
        (line,) = [line for line in printed.splitlines() if line.startswith(name)]
        assert line.endswith(what)
    assert f"folder  {run}" in printed
    assert f"images  train {found['images']['train']:,}, search " in printed
    assert "become shorter with a lower device.calibrate_s or " in printed
    assert "hardly any candidate" not in printed


def test_limits_that_nothing_can_keep_are_said(run_file: Path, tmp_path: Path) -> None:
    space = SearchSpace.from_yaml(load_config(run_file).space)
    limit = workload(space.smallest()).params / 2
    words = ["--set", f"search.limits={{params: {limit}}}", "--dry-run"]
    printed = invoke("search", run_file, "--run-dir", tmp_path / "run", *words).stdout
    assert "hardly any candidate can keep them: the nearest has params " in printed
    assert "off its limit" in printed


def test_the_plan_names_the_stages_and_sizes_of_the_run(finished: Path, run_file: Path) -> None:
    found = plan(load_config(run_file), finished)
    stages = json.loads((finished / "stages.json").read_text())
    assert found.seconds.keys() == stages.keys()
    for name in ("teacher", "supernet"):
        written = (finished / f"{name}.safetensors").stat().st_size / 1e6
        assert 0.3 * written < found.disk_mb[name] < 3 * written
    # The machine is shared: what is held to is the order of magnitude.
    total, took = sum(found.seconds.values()), sum(s["seconds"] for s in stages.values())
    assert took / 10 < total < took * 10


def test_estimates_from_the_rates_of_a_run_are_near_what_its_stages_took(finished: Path) -> None:
    with Run(RunFolder(finished, lock=False)) as run:
        rates = run.ensure_rates()
    assert Rates.load(RunPaths(finished).rates, run.config) == rates
    stages = json.loads((finished / "stages.json").read_text())
    for step in steps_of(run.config):
        estimate, took = step.seconds(rates), stages[step.stage]["seconds"]
        # The machine is shared, and stages of a second have fixed parts of about that length.
        assert took / 8 - 2 < estimate < 8 * took + 2, step.stage


@pytest.mark.parametrize("words", [["--dry-run"], []], ids=["dry run", "search"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("executor={kind: ray, address: 'localhost:1'}", "executor.address 'localhost:1': "),
        ("device.cost_model=nowhere.json", "nowhere.json: cannot be read"),
        ("device.name=nowhere.yaml", "nowhere.yaml: no such device file"),
    ],
)
def test_it_refuses_what_the_run_would(
    run_file: Path, tmp_path: Path, words: list[str], option: str, message: str
) -> None:
    result = invoke("search", run_file, "--run-dir", tmp_path / "run", "--set", option, *words)
    assert isinstance(result.exception, VitParetoError), result.output
    assert message in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_refused(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = invoke("search", run_file, "--run-dir", tmp_path / "file" / "run", "--dry-run")
    assert "is a file: name another folder" in str(result.exception)
