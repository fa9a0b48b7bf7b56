"""What may change when a run is resumed, and that what a budget chose does not."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from vitpareto.search.config import RunConfig, load_config
from vitpareto.search.run.assets import Run
from vitpareto.search.run.budget import allot, settle
from vitpareto.search.run.opening import open_run
from vitpareto.search.run.stages import Stage
from vitpareto.search.store.atomic_files import read_json
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces.errors import RunError


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


@pytest.fixture
def budgeted(space_file: Path, tmp_path: Path) -> RunConfig:
    """A run with a budget and one length of its own."""
    path = tmp_path / "run.yaml"
    run = {
        "space": str(space_file),
        "data": {"name": "digits"},
        "budget": "1h",
        "executor": {"threads": 1},
        "supernet": {"epochs": 9},
    }
    path.write_text(yaml.safe_dump(run))
    return load_config(path)


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


def test_rates_are_measured_once(budgeted: RunConfig, tmp_path: Path) -> None:
    with open_run(budgeted, tmp_path / "run", resume=False) as folder, Run(folder) as run:
        run.ensure_data()
        first = run.ensure_rates()
    with Run(RunFolder(tmp_path / "run", lock=False)) as again:
        assert again.ensure_rates() == dataclasses.replace(first, config=again.config)
