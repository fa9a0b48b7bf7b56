"""What a run has: made when it is asked for, kept, and the same whoever asks first."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vitpareto.cost_models import CostModel
from vitpareto.search.config import RunConfig, load_config
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.pipeline import STEPS, steps_of
from vitpareto.search.run.assets import Run
from vitpareto.search.run.rates import VIEWS, views_of
from vitpareto.search.run.stage import Stage
from vitpareto.search.store.run_folder import RunFolder, RunPaths
from vitpareto.spaces import Candidate, SearchSpace

from ..stage_files import without_file

pytestmark = pytest.mark.onnx


def test_every_stage_is_a_step_and_leaves_its_file(finished: Path) -> None:
    assert [step.stage for step in STEPS] == list(Stage)
    paths = RunPaths(finished)
    steps = steps_of(load_config(paths.config))
    assert set(Stage) - {step.stage for step in steps} == {Stage.START, Stage.LIBRARY}
    assert list(json.loads(paths.stages.read_text())) == [step.stage.value for step in steps]
    assert not without_file(paths, [step.stage for step in steps])


def test_what_is_there_is_not_made_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir() if path.is_file()}
    run = Run(RunFolder(finished, lock=False))
    assert run.ensure_supernet() is run.ensure_supernet()
    assert run.ensure_forecast() is not None
    assert run.ensure_lessons().labels.shape == run.data.train_labels.shape
    assert isinstance(run.ensure_cost_model(), CostModel)
    after = {path: path.stat().st_mtime_ns for path in finished.iterdir() if path.is_file()}
    assert {p for p in before if before[p] != after[p]} <= {finished / "stages.json"}


def test_scores_do_not_depend_on_what_was_measured_first(finished: Path, tmp_path: Path) -> None:
    """Inherited weights are rounded by the device's recipes, also before a calibration."""
    known, fresh = tmp_path / "known", tmp_path / "fresh"
    for path in (known, fresh):
        shutil.copytree(finished, path)
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["device"]["cost_model"] = str(finished / "cost_model.json")
        config["forecast"]["candidates"] = 0
        (path / "config.yaml").write_text(yaml.safe_dump(config))
    (fresh / "cost_model.json").unlink()
    runs = [Run(RunFolder(path, lock=False)) for path in (fresh, known)]
    sample = runs[0].space.sample(30, seed=1)
    candidates = [c for c in sample if c != Candidate.uncompressed(c.architecture)]
    first, second = (run.evaluator() for run in runs)
    assert candidates
    for candidate in candidates[:6]:
        assert first.logits(candidate).equal(second.logits(candidate))


class Sent(LocalExecutor):
    """Notes the functions that it is given, of which other executors send each to every worker."""

    def __init__(self) -> None:
        self.functions: list[Callable[..., Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not any(fn is known for known in self.functions):
            self.functions.append(fn)
        return super().submit(fn, *args, **kwargs)


def test_workers_get_a_scorer_once(tmp_path: Path) -> None:
    """However many searches of a comparison ask them; it may be hundreds of megabytes."""
    (tmp_path / "config.yaml").write_text(load_config("digits").to_yaml())
    run, executor = Run(RunFolder(tmp_path, lock=False)), Sent()
    run.made["ensure_scorers"] = {1.0: lambda candidate: {"accuracy": 0.5}}
    for candidate in SearchSpace.from_yaml("digits").sample(3, 0):
        scoring = run.scoring(executor, run.folder.comparison_scores)
        scoring.submit(candidate, {"macs": 1.0})
        assert scoring.result(candidate.key).metrics == {"accuracy": 0.5, "macs": 1.0}
    assert len(executor.functions) == 1


def test_torch_has_its_threads_back(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["executor"]["threads"] = torch.get_num_threads() + 1
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    before = torch.get_num_threads()
    with Run(RunFolder(path, lock=False)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("sections", "views"),
    [
        ({}, VIEWS),
        ({"budget": "20min"}, VIEWS // 2),
        ({"start": {"model": "vit"}, "finish": {"epochs": 2}, "forecast": {"steps": 10}}, 2),
        ({"start": {"model": "vit"}, "finish": {"epochs": 2}, "forecast": {"steps": 75}}, 5),
        ({"finish": {"epochs": 2}, "supernet": {"epochs": 3}, "proxy": {"epochs": 4}}, 8),
    ],
)
def test_the_teacher_answers_the_views_that_some_training_sees(
    sections: dict[str, Any], views: int
) -> None:
    config = RunConfig.model_validate({"space": "digits", **sections})
    assert views_of(config, 1000) == views
