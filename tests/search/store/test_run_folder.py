import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitpareto.search.scoring.evaluation import Evaluation, Scorer, evaluate
from vitpareto.search.scoring.evaluation_log import EvaluationLog, read_evaluations
from vitpareto.search.store.atomic_files import read_json, write_atomic
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import RunError, WriteError
from vitpareto.spaces.files import append_synced


@pytest.fixture
def evaluations(space: SearchSpace) -> list[Evaluation]:
    found = {c.key: c for c in space.sample(12, seed=1)}
    return [
        Evaluation(c, "complete", {"accuracy": i / 20}, 0.25) for i, c in enumerate(found.values())
    ]


def written(path: Path, evaluations: list[Evaluation]) -> bytes:
    log = EvaluationLog(path)
    for evaluation in evaluations:
        log.append(evaluation)
    return path.read_bytes()


def test_round_trip(tmp_path: Path, evaluations: list[Evaluation]) -> None:
    path = tmp_path / "evaluations.jsonl"
    failed = Evaluation(evaluations[0].candidate, "failed", {}, 0.1, "out of memory")
    raw = written(path, [failed, *evaluations[1:]])
    assert read_evaluations(path) == ([failed, *evaluations[1:]], len(raw))
    for line in raw.splitlines():
        assert {"key", "status", "metrics"} <= json.loads(line).keys()


def test_the_first_of_a_key_stays(tmp_path: Path, evaluations: list[Evaluation]) -> None:
    path = tmp_path / "evaluations.jsonl"
    again = Evaluation(evaluations[0].candidate, "complete", {"accuracy": 1.0})
    written(path, [evaluations[0], again])
    assert read_evaluations(path)[0] == [evaluations[0]]


def test_torn_at_every_byte(tmp_path: Path, evaluations: list[Evaluation]) -> None:
    path = tmp_path / "evaluations.jsonl"
    raw = written(path, evaluations[:3])
    ends = [0, *(i + 1 for i, byte in enumerate(raw) if byte == ord("\n"))]
    for cut in range(0, len(raw) + 1, 7):
        path.write_bytes(raw[:cut])
        log = EvaluationLog(path)
        whole = max(end for end in ends if end <= cut)
        assert log.all() == evaluations[: ends.index(whole)]
        log.append(evaluations[5])
        assert read_evaluations(path)[0] == [*evaluations[: ends.index(whole)], evaluations[5]]


@pytest.mark.parametrize("garbage", [b"\x00\xff\x80", b'{"key": 1}\n', b"{}\n", b"\n"])
def test_garbage_at_the_end_is_kept_beside(
    tmp_path: Path, evaluations: list[Evaluation], garbage: bytes
) -> None:
    path = tmp_path / "evaluations.jsonl"
    raw = written(path, evaluations)
    path.write_bytes(raw + garbage)
    EvaluationLog(path)
    assert path.read_bytes() == raw
    (torn,) = tmp_path.glob("*.torn-*")
    assert torn.read_bytes() == garbage


def test_a_broken_line_in_the_middle_is_refused(
    tmp_path: Path, evaluations: list[Evaluation]
) -> None:
    path = tmp_path / "evaluations.jsonl"
    raw = written(path, evaluations).splitlines(keepends=True)
    path.write_bytes(b"".join([raw[0], b"{broken\n", *raw[1:]]))
    with pytest.raises(RunError, match="line 2 is broken"):
        EvaluationLog(path)


def test_disk_full(tmp_path: Path, evaluations: list[Evaluation]) -> None:
    log = EvaluationLog(tmp_path / "evaluations.jsonl")
    log._path = Path("/dev/full")
    with pytest.raises(RunError, match="No space left on device"):
        log.append(evaluations[0])
    assert evaluations[0].key not in log


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """Or the next one would go on in its middle, and be lost although it was written."""
    path = tmp_path / "lines"
    append_synced(path, "whole\n")
    usual, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(WriteError, match="only part of a line"):
            append_synced(path, "too long for it\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    append_synced(path, "next\n")
    assert path.read_text() == "whole\nnext\n"


def test_a_full_disk_is_no_fault_of_a_candidate(evaluations: list[Evaluation]) -> None:
    def scorer(error: Exception) -> Scorer:
        def score(candidate: Candidate) -> dict[str, float]:
            raise error

        return score

    candidate = evaluations[0].candidate
    diverged = evaluate(scorer(RunError("the loss is nan")), candidate, {})
    assert (diverged.status, diverged.reason) == ("failed", "RunError: the loss is nan")
    with pytest.raises(WriteError):
        evaluate(scorer(WriteError("No space left on device")), candidate, {})


def test_a_stage_that_goes_on_adds_its_time(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", "space: digits\n", "name: tiny\n") as folder:
        folder.record_stage("search", {"seconds": 2.0, "peak_memory_mb": 9, "trials": 8})
        folder.record_stage("search", {"seconds": 1.0, "peak_memory_mb": 5, "trials": 12})
        stages = json.loads(folder.stages.read_text())
    assert stages == {"search": {"seconds": 3.0, "peak_memory_mb": 9, "trials": 12}}


def test_one_process_a_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", "space: digits\n", "name: tiny\n")
    with pytest.raises(RunError, match="another process works in this run folder"):
        RunFolder(folder.path)
    RunFolder(folder.path, lock=False)
    folder.close()
    RunFolder(folder.path).close()


def test_whoever_comes_second_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = RunFolder.create(tmp_path / "run", "space: digits\n", "name: tiny\n")
    first.catalog.write_text("{}")
    monkeypatch.setattr(RunFolder, "check_free", lambda path: None)  # as they did so together
    with pytest.raises(RunError, match="another process works in this run folder"):
        RunFolder.create(first.path, "space: cifar\n", "name: other\n")
    assert first.config.read_text() == "space: digits\n" and first.catalog.exists()
    first.close()
    first.progress.write_text("{}")  # which tells what the first one spent
    RunFolder.create(first.path, "space: cifar\n", "name: other\n").close()
    assert not first.progress.exists() and not first.catalog.exists()


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", "space: digits\n", "name: tiny\n")
    folder.close()
    script = (
        "import os, signal\nfrom pathlib import Path\n"
        "from vitpareto.search.store.run_folder import RunFolder"
        f"\nRunFolder(Path({str(folder.path)!r}))\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    RunFolder(folder.path).close()


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "space: digits\n", "name: tiny\n") as folder:
        folder.record_stage("teacher", {"seconds": 1.0})
    with pytest.raises(RunError, match="--resume"):
        RunFolder.create(tmp_path, "space: digits\n", "name: tiny\n")
    with pytest.raises(RunError, match=r"no run folder: it has no config\.yaml"):
        RunFolder(tmp_path / "elsewhere")


def test_files_of_others_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("path,label\n")
    with pytest.raises(RunError, match=r"is no run folder, .*write over its images.csv: name"):
        RunFolder.create(tmp_path, "space: digits\n", "name: tiny\n")
    assert [file.name for file in tmp_path.iterdir()] == ["images.csv"]


def test_atomic_writing_leaves_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file.json"
    write_atomic(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        read_json(tmp_path / "bad.json")
