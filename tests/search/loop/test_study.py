"""The loop, with a scoring function in place of a supernet: what it does is not at issue here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from vitpareto.cost_models import workload
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.study import Study, Until
from vitpareto.search.loop.task import Task
from vitpareto.search.pareto.objectives import Objective, pareto_front
from vitpareto.search.samplers import SAMPLERS
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog, read_evaluations
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import RunError

Costs = dict[str, float]
TRIALS, SOME = 40, 15  # samplers begin to learn after ten


def costs(candidates: Sequence[Candidate]) -> list[Costs]:
    return [{"macs": float(workload(candidate).macs)} for candidate in candidates]


def score(candidate: Candidate, known: Costs) -> Evaluation:
    accuracy = int(candidate.key[:6], 16) / 16**6
    return Evaluation(candidate, "complete", {"accuracy": accuracy, **known})


def study(
    space: SearchSpace,
    log: EvaluationLog,
    evaluate: Callable[[Candidate, Costs], Evaluation] = score,
    limit: float | None = None,
    executor: Executor | None = None,
    window: int = 1,
    sampler: str = "nsga2",
) -> Study:
    task = Task(space, [Objective("accuracy"), Objective("macs", limit)], costs, 0, 100)
    scores = Scores(evaluate, executor or LocalExecutor(), log)
    return Study(task, Sampler(sampler, task), scores, window)


def test_nothing_is_scored_twice(space: SearchSpace, tmp_path: Path) -> None:
    scored: list[str] = []

    def counting(candidate: Candidate, known: Costs) -> Evaluation:
        scored.append(candidate.key)
        return score(candidate, known)

    log = EvaluationLog(tmp_path / "log")
    study(space, log, counting).run(Until(TRIALS))
    assert len(set(scored)) == len(scored) == len(log) < TRIALS
    study(space, log, counting).run(Until(TRIALS))
    assert len(scored) == len(log)


def test_what_breaks_a_limit_is_never_scored(space: SearchSpace, tmp_path: Path) -> None:
    limit = 0.5 * costs([space.largest()])[0]["macs"]
    log = EvaluationLog(tmp_path / "log")
    search = study(space, log, limit=limit)
    search.run(Until(TRIALS))
    assert len(log) > 0
    assert all(e.metrics["macs"] <= limit for e in log.all())
    everything = EvaluationLog(tmp_path / "all")
    study(space, everything).run(Until(TRIALS))
    assert any(e.metrics["macs"] > limit for e in everything.all())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_maximizes_and_limits_the_accuracy_that_is_named(
    space: SearchSpace, tmp_path: Path, sampler: str
) -> None:
    """The same values under the other name give the same search, whatever the plain one says."""

    def renamed(candidate: Candidate, known: Costs) -> Evaluation:
        found = score(candidate, known).metrics
        other = {"accuracy": 1 - found["accuracy"], "balanced_accuracy": found["accuracy"]}
        return Evaluation(candidate, "complete", {**found, **other})

    keys: list[list[str]] = []
    for name, evaluate in (("accuracy", score), ("balanced_accuracy", renamed)):
        log = EvaluationLog(tmp_path / name)
        task = Task(space, [Objective(name, 0.3), Objective("macs")], costs, 0, SOME)
        scores = Scores(evaluate, LocalExecutor(), log)
        search = Study(task, Sampler(sampler, task, tmp_path / f"{name}.journal"), scores)
        search.run(Until(SOME))
        found = pareto_front(log.all(), task.objectives)
        assert all(e.metrics[name] >= 0.3 for e in found)
        words = search.summary().replace(name, "share")
        assert ("best share" in words) == bool(found)
        keys.append([words, *(e.key for e in log.all())])
    assert keys[0] == keys[1]


@pytest.mark.parametrize("sampler", ["surrogate", "nsga2", "tpe", "random", "sequential"])
def test_a_run_that_is_stopped_and_resumed_comes_to_the_same(
    space: SearchSpace, tmp_path: Path, sampler: str
) -> None:
    whole = EvaluationLog(tmp_path / "whole")
    study(space, whole, sampler=sampler).run(Until(TRIALS))

    left = iter(range(9))

    def interrupted(candidate: Candidate, known: Costs) -> Evaluation:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return score(candidate, known)

    parts = EvaluationLog(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        study(space, parts, interrupted, sampler=sampler).run(Until(TRIALS))
    parts = EvaluationLog(tmp_path / "parts")
    assert len(parts) == 9
    study(space, parts, sampler=sampler).run(Until(TRIALS))
    assert [e.key for e in parts.all()] == [e.key for e in whole.all()]


def test_the_order_in_which_scores_come_back_does_not_matter(
    space: SearchSpace, tmp_path: Path
) -> None:
    def slow(candidate: Candidate, known: Costs) -> Evaluation:
        time.sleep(int(candidate.key, 16) % 7 / 1000)
        return score(candidate, known)

    keys: list[set[str]] = []
    for attempt in range(3):
        log = EvaluationLog(tmp_path / f"log{attempt}")
        with ThreadPoolExecutor(3) as pool:
            study(space, log, slow, executor=pool, window=4).run(Until(TRIALS))
        keys.append({e.key for e in log.all()})
    assert keys[0] == keys[1] == keys[2]


def test_a_failure_is_recorded_and_the_search_goes_on(space: SearchSpace, tmp_path: Path) -> None:
    def poisonous(candidate: Candidate, known: Costs) -> Evaluation:
        if int(candidate.key, 16) % 4 == 0:
            return Evaluation(candidate, "failed", known, reason="out of memory")
        return score(candidate, known)

    log = EvaluationLog(tmp_path / "log")
    search = study(space, log, poisonous)
    search.run(Until(TRIALS))
    failed = [e for e in log.all() if e.status == "failed"]
    assert {e.reason for e in failed} == {"out of memory"}
    assert len(log) > len(failed)
    assert not any("accuracy" in e.metrics for e in failed)


def test_a_row_of_failures_ends_the_search(space: SearchSpace, tmp_path: Path) -> None:
    def broken(candidate: Candidate, known: Costs) -> Evaluation:
        return Evaluation(candidate, "failed", known, reason="no such file")

    log = EvaluationLog(tmp_path / "log")
    with pytest.raises(RunError, match=r"10 candidates in a row .* 10 times no such file"):
        study(space, log, broken).run(Until(TRIALS))
    assert len(log) == 10
    with pytest.raises(RunError, match="10 candidates in a row"):
        study(space, EvaluationLog(tmp_path / "log"), score).run(Until(TRIALS))
    again = EvaluationLog(tmp_path / "log", again=True)
    study(space, again, score).run(Until(TRIALS))
    assert {e.status for e in again.all()} == {"complete"}
    known, whole = read_evaluations(tmp_path / "log")
    assert len({e.key for e in known}) == len(known), "of what was tried again the last one counts"
    assert {e.key for e in known if e.status == "complete"} == {e.key for e in again.all()}
    assert whole == (tmp_path / "log").stat().st_size


class Fragile(Executor):
    """Loses the worker of some candidates."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future[Evaluation] = Future()
        if int(args[0].key, 16) % 4 == 0:
            future.set_exception(BrokenExecutor("its worker died"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_lost_worker_fails_its_candidate_only(space: SearchSpace, tmp_path: Path) -> None:
    log = EvaluationLog(tmp_path / "log")
    study(space, log, executor=Fragile()).run(Until(TRIALS))
    by_fate = {
        fate: {int(e.key, 16) % 4 == 0 for e in log.all() if e.status == fate}
        for fate in ("failed", "complete")
    }
    assert by_fate == {"failed": {True}, "complete": {False}}


SCRIPT = """
import sys, time
from pathlib import Path
from tests.search.loop.test_study import *
def slow(candidate, known):
    time.sleep(0.02)
    return score(candidate, known)
space = SearchSpace.from_text(sys.argv[2])
study(space, EvaluationLog(Path(sys.argv[1])), slow).run(Until(TRIALS))
"""


@pytest.mark.slow
def test_killed_at_random_instants(space: SearchSpace, tmp_path: Path) -> None:
    whole = EvaluationLog(tmp_path / "whole")
    study(space, whole).run(Until(TRIALS))
    path = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(path), space.to_yaml()]
    root = Path(__file__).parents[3]
    before: list[str] = []
    for _ in range(20):
        process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if path.exists() and len(path.read_bytes().splitlines()) > len(before):
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        process.wait()
        after = [e.key for e in read_evaluations(path)[0]]
        assert after[: len(before)] == before
        before = after
    subprocess.run(command, cwd=root, stderr=subprocess.DEVNULL, check=True)
    assert [e.key for e in read_evaluations(path)[0]] == [e.key for e in whole.all()]
