"""Comparing samplers from the command line, on what a finished run has trained and measured."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from vitpareto.cost_models import workload
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.experiments.sampler_comparison import compare, comparison_text
from vitpareto.search.loop.task import Task
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog, read_evaluations
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import ConfigError, RunError, UnknownNameError

from ..conftest import invoke

pytestmark = pytest.mark.onnx


def test_search_compare(finished: Path, run_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    delivered = sorted(path.name for path in (run / "pareto").iterdir())
    command = ["search", run_file, "--run-dir", run, "--resume", "--set", "search.trials=5"]
    names = ["surrogate", "sequential", "int8"]
    command += [word for name in names for word in ("--compare", name)] + ["--seeds", "2"]
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    header, *rows, last = result.stdout.splitlines()
    assert header.split() == ["sampler", "hypervolume", "95%", "interval", "scored"]
    assert {row.split()[0] for row in rows} == set(names)
    assert last == f"Fronts: {run / 'comparison.png'}"
    outcomes = json.loads((run / "comparison.json").read_text())
    volumes = [o["hypervolume"] for o in outcomes]
    assert volumes == sorted(volumes, reverse=True)
    for outcome in outcomes:
        assert len(outcome["hypervolumes"]) == len(outcome["fronts"]) == 2
        assert all(n <= 5 for n in outcome["scored"])
    assert (run / "comparison.png").read_bytes().startswith(b"\x89PNG")
    # Scored once, whoever proposed it, and apart from the run's own evaluations.
    scored, _ = read_evaluations(run / "comparison.jsonl")
    assert len(scored) <= sum(n for outcome in outcomes for n in outcome["scored"])
    own = (finished / "evaluations.jsonl").read_bytes()
    assert (run / "evaluations.jsonl").read_bytes() == own
    assert sorted(path.name for path in (run / "pareto").iterdir()) == delivered
    again = invoke(*command, "--json")
    assert json.loads(again.stdout) == outcomes
    assert read_evaluations(run / "comparison.jsonl")[0] == scored


def counted(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    return [{"macs": float(workload(candidate).macs)} for candidate in candidates]


def scored(candidate: Candidate, known: Mapping[str, float]) -> Evaluation:
    depth = len([*candidate.architecture.blocks()])
    return Evaluation(candidate, "complete", {"accuracy": 1 - 1 / (1 + depth), **known})


def test_a_sampler_that_is_named_twice_has_no_narrower_interval(tmp_path: Path) -> None:
    space, objectives = SearchSpace.from_yaml("digits"), [Objective("accuracy"), Objective("macs")]
    task, log = Task(space, objectives, counted, 0, 4), tmp_path / "log"

    def told(names: Sequence[str], seeds: int) -> str:
        scoring = lambda: Scores(scored, LocalExecutor(), EvaluationLog(log))  # noqa: E731
        return comparison_text(compare(names, task, scoring, seeds))

    assert told(["random", "random"], 2) == told(["random"], 2)
    assert told(["random"], 1).splitlines()[1].split()[2] == "?", "one search has no interval"


def test_an_unknown_sampler(finished: Path, run_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    result = invoke("search", run_file, "--run-dir", run, "--resume", "--compare", "sequentiel")
    assert isinstance(result.exception, UnknownNameError)
    assert "Did you mean 'sequential'?" in str(result.exception)


@pytest.mark.parametrize(
    ("override", "kind", "said"),
    [
        ("search.objectives=[accuracy]", ConfigError, "name two or more search.objectives"),
        ("search.limits={params: 1.0}", RunError, "no search scored a candidate that keeps"),
    ],
)
def test_what_has_no_front(
    finished: Path, run_file: Path, tmp_path: Path, override: str, kind: type[Exception], said: str
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    words = ["--run-dir", tmp_path / "run", "--resume", "--compare", "random", "--seeds", "1"]
    words += ["--set", override, "--set", "search.trials=2"]
    result = invoke("search", run_file, *words)
    assert isinstance(result.exception, kind) and said in str(result.exception)


def test_an_interrupted_comparison_is_continued_as_one(
    finished: Path, run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitpareto.search.experiments.sampler_comparison.compare_run", stopped)
    shutil.copytree(finished, tmp_path / "run")
    words = ["--run-dir", tmp_path / "run", "--resume", "--compare", "random", "--seeds", "3"]
    said = invoke("search", run_file, *words).stderr
    assert said.rstrip().endswith("--compare random --seeds 3 --resume")
