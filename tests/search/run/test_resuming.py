"""What may change when a run is resumed, and that what a budget chose does not."""

import dataclasses
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vitpareto.search.config import FEWEST_EXAMPLES, RunConfig, load_config
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.pipeline import beside_search, steps_of
from vitpareto.search.run.assets import Run
from vitpareto.search.run.budget import allot, ending, expected_rates, finishing_pace, settle
from vitpareto.search.run.choosing import scored
from vitpareto.search.run.opening import open_run
from vitpareto.search.run.stages import Stage
from vitpareto.search.scoring.evaluation import Evaluation, evaluate
from vitpareto.search.scoring.evaluation_log import read_evaluations
from vitpareto.search.scoring.forecast import draw_examples
from vitpareto.search.store.atomic_files import read_json, write_atomic, write_json
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.search.training import pace
from vitpareto.search.training.pace import Limit
from vitpareto.spaces import Candidate
from vitpareto.spaces.errors import ConfigError, RunError

from .digits_run import digits_run


@pytest.mark.parametrize(
    ("override", "file"),
    [
        ("supernet.epochs=3", "supernet"),
        ("supernet.epochs=3", "supernet_checkpoint"),
        ("teacher.epochs=3", "teacher"),
        ("forecast.steps=3", "short_trainings"),
    ],
)
def test_a_section_may_change_until_something_depends_on_it(
    tmp_path: Path, override: str, file: str
) -> None:
    path = tmp_path / "run"
    with open_run(load_config("digits"), path, resume=False) as folder:
        folder.record_stage("data", {})
    with open_run(load_config("digits", [override]), path, resume=True) as folder:
        changed = load_config(folder.config)
        assert changed == load_config("digits", [override])
        getattr(folder, file).write_text("")
    section = override.partition(".")[0]
    with pytest.raises(RunError, match=f"cannot be resumed with another {section}"):
        open_run(load_config("digits"), path, resume=True)


@pytest.mark.parametrize(
    ("override", "file"),
    [
        ("forecast.steps=3", "comparison.jsonl"),
        ("forecast.steps=3", "evaluations-0.5.jsonl"),
        ("search.limits.accuracy=0.5", "comparison.jsonl"),
        ("proxy.epochs=3", "proxy_trainings-balanced_accuracy.jsonl"),
        ("distill.features=1.0", "proxy_trainings.jsonl"),
    ],
)
def test_what_was_scored_in_one_way_is_not_mixed_with_what_is_in_another(
    tmp_path: Path, override: str, file: str
) -> None:
    """In comparisons of samplers, on shares of the images, and of another accuracy, too."""
    path = tmp_path / "run"
    with open_run(load_config("digits"), path, resume=False) as folder:
        folder.record_stage("data", {})
        (path / file).write_text("")
    key = override.partition("=")[0]
    named = key if key.startswith("search") else key.partition(".")[0]
    with pytest.raises(RunError, match=f"cannot be resumed with another {named}:"):
        open_run(load_config("digits", [override]), path, resume=True)


def test_a_limit_on_accuracy_stays_one_on_short_trainings(tmp_path: Path) -> None:
    """Without the budget, whole trainings would lift what is scored from now on, and no other."""
    path, limit = tmp_path / "run", "search.limits.accuracy=0.5"
    with open_run(load_config("digits", ["budget=1h", limit]), path, resume=False) as folder:
        folder.record_stage("data", {})
        folder.short_trainings.write_text("")
    unbounded = load_config("digits", ["budget=none", limit])
    open_run(unbounded, path, resume=True).close()  # nothing was scored
    open_run(load_config("digits", ["budget=1h", limit]), path, resume=True).close()
    (path / "evaluations.jsonl").write_text("")
    open_run(load_config("digits", ["budget=2h", limit]), path, resume=True).close()
    with pytest.raises(RunError, match="cannot be resumed with another budget:"):
        open_run(unbounded, path, resume=True)
    (path / "whole_trainings.jsonl").write_text("")
    open_run(unbounded, path, resume=True).close()


@pytest.mark.parametrize("file", ["comparison.jsonl", "evaluations-0.5.jsonl"])
def test_what_another_release_scored_is_not_mixed_with_new_scores(
    tmp_path: Path, file: str
) -> None:
    """Of runs from scratch, too, whose forecasts have learned to see more of a candidate."""
    path, config = tmp_path / "run", load_config("digits")
    with open_run(config, path, resume=False) as folder:
        folder.record_stage("data", {})
        about = read_json(folder.environment)
        write_json(folder.environment, about | {"assembled": about["assembled"] - 1})
        (path / file).write_text("")
    with pytest.raises(RunError, match="another release scored its candidates in another way"):
        open_run(config, path, resume=True)
    (path / file).unlink()
    open_run(config, path, resume=True).close()
    (path / file).write_text("")
    open_run(config, path, resume=True).close()


def test_a_space_without_what_a_device_refuses_is_not_resumed_for_another(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with open_run(load_config("digits"), path, resume=False) as folder:
        folder.record_stage("data", {})
    with pytest.raises(RunError, match="cannot be resumed with another device"):
        open_run(load_config("digits", ["device.name=torch-1t"]), path, resume=True)
    open_run(load_config("digits", ["device.calibrate_s=20"]), path, resume=True).close()


def test_models_are_finished_as_the_forecast_saw_it(tmp_path: Path) -> None:
    """Where the short trainings are, or whole ones; longer trainings of that kind are no others."""
    path = tmp_path / "run"
    with open_run(load_config("digits"), path, resume=False) as folder:
        folder.record_stage("data", {})
        folder.short_trainings.write_text("")
    changed, longer = (load_config("digits", [f"finish.{s}"]) for s in ("lr=0.03", "epochs=99"))
    open_run(changed, path, resume=True).close()  # the short ones are of `proxy`
    folder.whole_trainings.write_text("")
    for config in (load_config("digits"), longer):
        with pytest.raises(RunError, match="cannot be resumed with another finish"):
            open_run(config, path, resume=True)
    open_run(changed.with_values({"finish.finalists": 9}), path, resume=True).close()


def test_a_space_too_small_for_a_forecast_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(
        "input_size: 8\npatch_size: [2, 4]\nin_chans: 1\nnum_classes: 10\n"
        "stages: [{depth: 1, width: 16, num_heads: 2}]\n"
    )
    config = load_config("digits", [f"space={tmp_path / 'two.yaml'}"])
    with pytest.raises(ConfigError, match=r"at least 8 candidates, and .* has 2: set forecast"):
        open_run(config, tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()


def failed(candidate: Candidate) -> str:
    """A line of a log: the candidate failed."""
    evaluation = Evaluation(candidate, "failed", reason="lost 3 workers one after the other")
    return f"{json.dumps(evaluation.to_dict())}\n"


def test_what_failed_is_tried_again_by_a_search_that_is_resumed(tmp_path: Path) -> None:
    """Ten failures in a row ended it, and would for ever."""
    with open_run(load_config("digits"), tmp_path / "run", resume=False) as folder:
        run = Run(folder)
        run.made["_calls"] = {1.0: partial(evaluate, lambda candidate: {"accuracy": 0.5})}
        candidate = run.space.smallest()
        folder.evaluations.write_text(failed(candidate))
        scoring = run.scoring(LocalExecutor(), folder.evaluations)
        scoring.submit(candidate, {})
        assert scoring.result(candidate.key).status == "complete"
        assert [e.status for e in scored(run)] == ["complete"]


def test_failed_examples_are_tried_again_until_the_forecast_is_made(
    space_file: Path, tmp_path: Path
) -> None:
    """Later it would be another forecast, and what it has scored is there."""
    quick: dict[str, Any] = {
        "teacher": {"epochs": 1, "batch_size": 512},
        "supernet": {"epochs": 0},
        "forecast": {"candidates": FEWEST_EXAMPLES + 1, "steps": 1},
    }
    config, path = digits_run(space_file, tmp_path, "none", **quick), tmp_path / "run"
    with open_run(config, path, resume=False) as folder, Run(folder) as run:
        first = draw_examples(run.space, FEWEST_EXAMPLES + 1, config.search.seed)[0]
        folder.short_trainings.write_text(failed(first))
        run.ensure_forecast()
        trained, _ = read_evaluations(folder.short_trainings)
        assert {e.status for e in trained} == {"complete"}
        others = [json.dumps(e.to_dict()) for e in trained if e.key != first.key]
        folder.short_trainings.write_text(failed(first) + "\n".join(others) + "\n")
    with open_run(config, path, resume=True) as folder, Run(folder) as run:
        before = folder.short_trainings.read_text()
        run.ensure_forecast()
        assert folder.short_trainings.read_text() == before


@pytest.fixture
def budgeted(space_file: Path, tmp_path: Path) -> RunConfig:
    """A run with a budget and one length of its own."""
    return digits_run(space_file, tmp_path, "1h", supernet={"epochs": 9})


def test_what_a_budget_chose_stays_when_a_run_is_resumed(
    budgeted: RunConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    with open_run(budgeted, path, resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        for stage in (Stage.CALIBRATION, Stage.TEACHER, Stage.SUPERNET):
            allot(run, stage)
        chosen = read_json(folder.budget)["chosen"]
        assert list(chosen) == ["calibration", "teacher"], "the supernet has a length"
        assert run.config.supernet.epochs == 9
        first = load_config(folder.config)
        assert first.teacher.epochs == chosen["teacher"]["values"]["teacher.epochs"] != 30
        settle(run)
        assert "teacher.epochs" in read_json(folder.budget)["more"] or first.teacher.epochs == 60
    with open_run(budgeted, path, resume=True) as folder, Run(folder) as run:
        allot(run, Stage.TEACHER)
        assert run.config == first
    given = budgeted.with_values({"teacher.epochs": 5})
    with open_run(given, path, resume=True) as folder:
        assert load_config(folder.config).teacher.epochs == 5, "what is given wins"
        assert "teacher.epochs" not in read_json(folder.budget)["open"]


def test_what_is_done_beside_a_search_says_by_which_lengths_it_goes(
    budgeted: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A budget divides the time of a search; a comparison in a new folder went by the longest."""
    with open_run(budgeted, tmp_path / "run", resume=False) as folder, Run(folder) as run:
        with beside_search(run):
            pass
        (said,) = caplog.messages
        assert said.startswith("budget: 1h ")
        assert "calibrate_s 40, teacher.epochs 30, forecast.candidates 60, " in said
        assert "search.trials 200" in said
        assert "supernet.epochs" not in said, "it has a length"
        assert "finish" not in said, "nothing is finished"
        folder.record_stage("teacher", {"seconds": 10.0})
        with beside_search(run):
            pass
        assert "calibrate_s 40, forecast.candidates 60, " in caplog.messages[-1]
        caplog.clear()
        run.change(budgeted.model_copy(update={"budget": "none"}))
        with beside_search(run):
            pass
        assert not caplog.messages


def test_what_keeps_to_its_share_has_a_limit(budgeted: RunConfig, tmp_path: Path) -> None:
    with open_run(budgeted, tmp_path / "run", resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        limits = dict[Stage, float]()
        for stage in (Stage.TEACHER, Stage.SUPERNET, Stage.FORECAST, Stage.SEARCH):
            allot(run, stage)
            if run.limit:
                limits[stage] = run.limit.end
        assert list(limits) == [Stage.TEACHER, Stage.FORECAST]
        assert all(run.begun < end < run.begun + 3600 for end in limits.values())
        folder.record_stage("teacher", {"seconds": 10.0})
        allot(run, Stage.TEACHER)
        assert run.limit is None, "it has ended"


@pytest.mark.slow
def test_what_is_told_of_a_teacher_are_the_passes_that_it_made(
    budgeted: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LOOK_S", 0.1)
    path = tmp_path / "run"
    with open_run(budgeted, path, resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        allot(run, Stage.TEACHER)
        planned = run.config.teacher.epochs
        run.limit = Limit(time.monotonic(), 60)
        run.ensure_lessons()
        made = run.config.teacher.epochs
        assert made == round(run.limit.made) < planned
        settle(run)
        known = read_json(folder.budget)
        assert known["chosen"]["teacher"]["values"] == {"teacher.epochs": made}
        assert f"teacher.epochs ({made} of up to 60)" in known["more"]
    with open_run(budgeted, path, resume=True) as folder, Run(folder) as run:
        assert run.config.teacher.epochs == made


@pytest.mark.slow
def test_a_forecast_whose_time_is_over_is_content_with_what_it_has(
    budgeted: RunConfig, tmp_path: Path
) -> None:
    """And so is a resumed run."""
    quick = {"teacher.epochs": 1, "teacher.batch_size": 128, "forecast.steps": 1}
    config, path = budgeted.with_values(quick), tmp_path / "run"
    with open_run(config, path, resume=False) as folder, Run(folder) as run:
        run.ensure_lessons()
        allot(run, Stage.FORECAST)
        assert run.config.forecast.candidates > FEWEST_EXAMPLES
        run.limit = Limit(time.monotonic())
        assert run.ensure_forecast() is not None
        assert run.config.forecast.candidates == FEWEST_EXAMPLES
        settle(run)
        values = read_json(folder.budget)["chosen"]["forecast"]["values"]
        assert values == {"forecast.candidates": FEWEST_EXAMPLES}
        lines = folder.short_trainings.read_text()
    with open_run(config, path, resume=True) as folder, Run(folder) as run:
        assert run.config.forecast.candidates == FEWEST_EXAMPLES
        assert run.ensure_forecast() is not None
        assert folder.short_trainings.read_text() == lines


def test_a_job_that_fills_its_budget_ends_with_it(budgeted: RunConfig, tmp_path: Path) -> None:
    with open_run(budgeted, tmp_path / "run", resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        for stage in (Stage.CALIBRATION, Stage.TEACHER):
            allot(run, stage)
        rates = expected_rates(run)
        seconds = {step.stage: step.seconds(rates) for step in steps_of(rates.config)}
        end, needed = ending(run, seconds), sum(seconds.values())
        if 0.95 * 3600 < needed < 3600:
            assert end == pytest.approx(run.begun + 3600, abs=30)
        filling = {stage: s * 3600 / needed for stage, s in seconds.items()}
        assert ending(run, filling) == pytest.approx(run.begun + 3600, abs=30)
        assert ending(run, {stage: s / 2 for stage, s in filling.items()}) is None
        folder.record_stage("finishing", {"seconds": 1.0})
        assert ending(run, filling) is None, "what is left takes what it takes"


def test_rates_are_measured_once(budgeted: RunConfig, tmp_path: Path) -> None:
    with open_run(budgeted, tmp_path / "run", resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        first = run.ensure_rates()
    with Run(RunFolder(tmp_path / "run", lock=False)) as again:
        assert again.ensure_rates() == dataclasses.replace(first, config=again.config)


def test_models_that_are_chosen_after_the_time_was_spent_make_their_passes(
    budgeted: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose training began is kept to what is left: a stopped process goes on as it was."""
    with open_run(budgeted, tmp_path / "run", resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        chosen = [Evaluation(c, "complete", {}) for c in run.space.sample(2, 1)]
        assert finishing_pace(run, chosen)
        passes = run.config.finish.epochs
        monkeypatch.setattr(run, "before_s", 3590.0)
        assert finishing_pace(run, chosen) is None and run.config.finish.epochs == passes
        for e in chosen:
            write_atomic(folder.training_of(e.key), "")
        assert finishing_pace(run, chosen)
