"""What happens to a search when its process, its files or its user interfere."""

import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from vitpareto.cost_models import workload
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.study import Study, Until
from vitpareto.search.loop.task import Task
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog, read_evaluations
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import RunError

ROOT = Path(__file__).parents[3]
OBJECTIVES = [Objective("accuracy"), Objective("macs")]
Score = Callable[[Candidate, dict[str, float]], Evaluation]


def costs(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    return [{"macs": float(workload(candidate).macs)} for candidate in candidates]


def score(candidate: Candidate, known: dict[str, float]) -> Evaluation:
    return Evaluation(
        candidate, "complete", {"accuracy": int(candidate.key[:6], 16) / 16**6, **known}
    )


def study(
    space: SearchSpace,
    folder: Path,
    scorer: Score = score,
    name: str = "nsga2",
    journal: bool = True,
) -> Study:
    task = Task(space, OBJECTIVES, costs, 0, 100)
    scores = Scores(scorer, LocalExecutor(), EvaluationLog(folder / "evaluations.jsonl"))
    return Study(task, Sampler(name, task, folder / "study.journal" if journal else None), scores)


def undisturbed(space: SearchSpace, folder: Path, trials: int, name: str = "nsga2") -> list[str]:
    (folder / "whole").mkdir()
    study(space, folder / "whole", name=name).run(Until(trials))
    return keys(folder / "whole")


def keys(folder: Path) -> list[str]:
    return [e.key for e in read_evaluations(folder / "evaluations.jsonl")[0]]


SCRIPT = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from tests.search.loop.test_reliability import *

    def slow(candidate, known):
        time.sleep(0.05)
        return score(candidate, known)

    space, folder, name = SearchSpace.from_text(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    try:
        print(study(space, folder, slow, name).run(Until(60)), flush=True)
    except KeyboardInterrupt:
        print("interrupt", flush=True)
""")


def start(space: SearchSpace, folder: Path, name: str = "nsga2") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, space.to_yaml(), str(folder), name]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_lines(path: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < n:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_trial_finish(
    space: SearchSpace, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(space, tmp_path)
    wait_for_lines(tmp_path / "evaluations.jsonl", 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "interrupt\n"), err
    found = keys(tmp_path)
    assert 3 <= len(found) < 20
    study(space, tmp_path).run(Until(60))
    assert keys(tmp_path) == undisturbed(space, tmp_path, 60)
    assert keys(tmp_path)[: len(found)] == found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nsga2", "surrogate"])
def test_killed_at_20_random_instants(space: SearchSpace, tmp_path: Path, name: str) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    before: list[str] = []
    for attempt in range(20):
        process = start(space, killed, name)
        if before or attempt:
            time.sleep(2.0 + (attempt * 7919 % 100) / 40)  # from its imports to some way in
        else:
            wait_for_lines(killed / "evaluations.jsonl", 1)
        process.kill()
        process.communicate()
        after = keys(killed)
        assert after[: len(before)] == before  # nothing that was finished is gone
        assert len(set(after)) == len(after)  # nothing is there twice
        before = after
    process = start(space, killed, name)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert keys(killed) == undisturbed(space, tmp_path, 60, name)


@pytest.mark.parametrize("tail", [b"{", b"\x00" * 40, b'{"op_code": 99}\n', b"garbage\n"])
def test_a_broken_journal_is_written_anew(space: SearchSpace, tmp_path: Path, tail: bytes) -> None:
    study(space, tmp_path).run(Until(20))
    journal = tmp_path / "study.journal"
    with journal.open("ab") as file:
        file.write(tail)
    study(space, tmp_path).run(Until(30))
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    (found,) = optuna.get_all_study_summaries(optuna.storages.JournalStorage(backend))
    assert found.n_trials == 30


@pytest.mark.parametrize("file", ["evaluations.jsonl", "study.journal"])
def test_a_full_disk_stops_with_one_line(space: SearchSpace, tmp_path: Path, file: str) -> None:
    journal = file == "study.journal"  # the larger one: without it the other is full first
    study(space, tmp_path, journal=journal).run(Until(10))
    before = keys(tmp_path)
    # A limit on the size of files is the nearest that a test may set without being root.
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / file).stat().st_size + 300, hard))
    try:
        with pytest.raises(RunError, match=rf"{file}: .*(File too large|only part of a line)"):
            study(space, tmp_path, journal=journal).run(Until(40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, usual)
    assert keys(tmp_path)[: len(before)] == before
    study(space, tmp_path).run(Until(40))
    assert keys(tmp_path) == undisturbed(space, tmp_path, 40)


@pytest.mark.parametrize("name", ["nsga2", "surrogate"])
def test_a_study_ends_when_nothing_grows(space: SearchSpace, tmp_path: Path, name: str) -> None:
    found = study(space, tmp_path, name=name)
    assert found.run(Until(400, patience=15)) in ("stagnation", "exhausted")
    assert 15 <= found.told < 400
    again = study(space, tmp_path, name=name)
    again.run(Until(400, patience=15))
    assert again.told == found.told
    assert again.archive.volume == found.archive.volume > 0


def test_a_study_ends_in_time(space: SearchSpace, tmp_path: Path) -> None:
    def slow(candidate: Candidate, known: dict[str, float]) -> Evaluation:
        time.sleep(0.05)
        return score(candidate, known)

    start = time.monotonic()
    assert study(space, tmp_path, slow).run(Until(1000, seconds=0.5)) == "time"
    assert time.monotonic() - start < 5
    assert 1 <= len(keys(tmp_path)) <= 12


def test_a_study_ends_with_enough_scored(space: SearchSpace, tmp_path: Path) -> None:
    found = study(space, tmp_path)
    assert found.run(Until(1000, scored=25)) == "scored"
    assert found.scored == len(keys(tmp_path)) == 25


def test_plain_lines_without_a_terminal(
    space: SearchSpace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vitpareto.search.console.EVERY_S", 0.0)
    found = study(space, tmp_path)
    found.run(Until(30))
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("search: 30 of 30 trials, ")
    assert last.endswith(found.summary())
    best = max(e.metrics["accuracy"] for e in found.scoring.log.all())
    assert f"best accuracy {best:.4g}" in last
    assert "feasible 100%" in last


def test_every_evaluation_is_on_disk_before_its_trial_is_told(
    space: SearchSpace, tmp_path: Path
) -> None:
    """Recorded where it arrives, even while the driver is busy elsewhere."""
    log = EvaluationLog(tmp_path / "log")
    candidates = list({c.key: c for c in space.sample(8, seed=0)}.values())
    with ThreadPoolExecutor(2) as pool:
        scores = Scores(score, pool, log)
        for candidate, known in zip(candidates, costs(candidates), strict=True):
            scores.submit(candidate, known)
    assert {e.key for e in read_evaluations(tmp_path / "log")[0]} == {c.key for c in candidates}
