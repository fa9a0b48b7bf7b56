"""How far a job is: told at every stage, kept in a file, and never more than an estimate."""

import contextlib
import json
import os
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest

from vitpareto.search.config import load_config
from vitpareto.search.console import progress, spoken
from vitpareto.search.pipeline import steps_of
from vitpareto.search.run import progress as module
from vitpareto.search.run.progress import Job, current_job, following, stopped_s
from vitpareto.search.run.stage import MEANINGS, Stage
from vitpareto.search.store.run_folder import RunPaths

STAGES = (Stage.DATA, Stage.CALIBRATION, Stage.TEACHER, Stage.SUPERNET)
EXPECTED = {Stage.DATA: 1.0, Stage.CALIBRATION: 100.0, Stage.TEACHER: 60.0, Stage.SUPERNET: 240.0}


class Clock:
    """A clock that tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(module.time, "monotonic", moved)
    return moved


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    (tmp_path / "config.yaml").touch()
    return RunPaths(tmp_path)


def kept(paths: RunPaths) -> dict[str, object]:
    return json.loads(paths.progress.read_text())


def test_every_stage_has_words() -> None:
    assert set(MEANINGS) == set(Stage)


def test_a_stage_says_its_number_its_meaning_and_the_time_left(
    paths: RunPaths, clock: Clock
) -> None:
    job = Job(paths, STAGES, {})
    assert job.begin(Stage.DATA) == f"stage 1 of 4: data: {Stage.DATA.meaning}"
    job.finish(Stage.DATA)
    job.expect(EXPECTED)
    assert job.begin(Stage.CALIBRATION).endswith("; about 7 min left in all")


def test_what_is_left_follows_the_stages_so_far(paths: RunPaths, clock: Clock) -> None:
    job = Job(paths, STAGES, {"data": 1.0, "calibration": 90.0})
    job.expect(EXPECTED)
    assert job.to_dict()["left_s"] == 300
    job.begin(Stage.TEACHER)
    clock.now = 120.0  # twice as long as expected
    job.finish(Stage.TEACHER)
    left = job.to_dict()["left_s"]
    assert 1.5 * 240 < left < 2 * 240  # what is to come is expected to take longer as well
    job.begin(Stage.SUPERNET)
    for step in range(1, 51):
        clock.now += 10.0
        job.see("supernet", step, 100, "loss=1")
    found = job.to_dict()
    assert found["stage_left_s"] == found["left_s"] == pytest.approx(500, rel=0.03)
    assert (found["share"], found["doing"]) == (0.5, "supernet: 50 of 100, loss=1")


def test_a_stage_that_goes_on_counts_from_where_it_was(paths: RunPaths, clock: Clock) -> None:
    job = Job(paths, STAGES, {"data": 1.0, "calibration": 90.0, "teacher": 50.0})
    job.expect(EXPECTED)
    job.begin(Stage.SUPERNET)
    job.see("supernet", 60, 100, "")  # from a checkpoint
    for step in range(61, 81):
        clock.now += 2.0
        job.see("supernet", step, 100, "")
    assert job.to_dict()["left_s"] == pytest.approx(40)
    states = [row["state"] for row in job.to_dict()["stages"]]
    assert states == ["done", "done", "done", "now"]


def test_the_time_of_a_stage_that_was_stopped_is_not_forgotten(
    paths: RunPaths, clock: Clock
) -> None:
    """Whether the next process comes to it again or is stopped before, and counted once."""

    def stopped(begun: Stage, seconds: float) -> Job:
        job = Job(paths, STAGES, {"data": 1.0})
        with pytest.raises(KeyboardInterrupt), job.kept():
            job.begin(begun)
            clock.now += seconds
            raise KeyboardInterrupt
        return job

    paths.stages.write_text('{"data": {"seconds": 1.0}}')
    stopped(Stage.TEACHER, 40.0)
    assert stopped_s(paths) == {"teacher": 40.0}
    stopped(Stage.CALIBRATION, 5.0)
    assert stopped_s(paths) == {"calibration": 5.0, "teacher": 40.0}
    job = stopped(Stage.TEACHER, 20.0)
    assert stopped_s(paths)["teacher"] == 60.0
    assert job.finish(Stage.TEACHER) == 60.0
    paths.stages.write_text('{"data": {}, "calibration": {}, "teacher": {}}')
    assert stopped_s(paths) == {}


def test_stages_that_had_ended_and_are_gone_through_again_are_not_fast(
    paths: RunPaths, clock: Clock
) -> None:
    """A resumed run loads what they made in a moment."""
    ended = {"data": 1.0, "calibration": 100.0, "teacher": 60.0}
    job = Job(paths, STAGES, ended)
    job.expect(EXPECTED)
    job.begin(Stage.TEACHER)
    for step in range(11):
        clock.now += 0.01
        job.see("teacher", step, 100, "")
    assert job.to_dict()["left_s"] == pytest.approx(240, abs=1)
    assert job.finish(Stage.TEACHER) == pytest.approx(0.11)
    assert job.to_dict()["left_s"] == pytest.approx(240, abs=1)
    seconds = {row["name"]: row["seconds"] for row in job.to_dict()["stages"]}
    assert seconds["teacher"] == pytest.approx(60.11)


def test_stages_follow_what_is_expected(paths: RunPaths, clock: Clock) -> None:
    """Also where one of them is left out on the way."""
    job = Job(paths, STAGES, {"data": 1.0})
    job.expect({stage: s for stage, s in EXPECTED.items() if stage is not Stage.SUPERNET})
    assert job.begin(Stage.TEACHER).startswith("stage 3 of 3: teacher")
    assert [row["name"] for row in job.to_dict()["stages"]] == ["data", "calibration", "teacher"]


def test_a_job_that_keeps_to_its_end_says_what_is_left_until_then(
    paths: RunPaths, clock: Clock
) -> None:
    """However slow or fast a stage is, as those to come are cut or stretched."""
    job = Job(paths, STAGES, {"data": 1.0, "calibration": 90.0})
    job.expect(EXPECTED, end=400.0)
    job.begin(Stage.TEACHER)
    for step in range(1, 100):
        clock.now += 2.0 if step < 50 else 0.1
        job.see("teacher", step, 100, "")
        told = job.to_dict()
        assert told["left_s"] == pytest.approx(400 - clock.now, abs=0.1)
        assert told["stage_left_s"] <= told["left_s"]
        if 20 <= step < 50:
            assert told["stage_left_s"] == pytest.approx(2.0 * (100 - step)), "which is not cut"
    rows = {row["name"]: row["expected_s"] for row in job.to_dict()["stages"]}
    assert rows["supernet"] == 240
    clock.now = 399.0  # and still there is the next one
    assert job.to_dict()["left_s"] == 240
    clock.now += 500
    job.see("another bar", 0, 10, "")
    clock.now += 100
    job.see("another bar", 2, 10, "")
    told = job.to_dict()
    assert told["stage_left_s"] == told["left_s"] == pytest.approx(400)


def test_a_second_bar_of_a_stage_counts_for_its_part(paths: RunPaths, clock: Clock) -> None:
    """Or a machine that is as fast as expected would look twice as fast."""
    job = Job(paths, STAGES, {"data": 1.0, "calibration": 90.0})
    job.expect(EXPECTED)
    job.begin(Stage.TEACHER)
    clock.now += 30.0
    for step in range(51):
        job.see("another bar", step, 100, "")
        clock.now += 0.3
    told = {row["name"]: row["expected_s"] for row in job.to_dict()["stages"]}
    assert told["supernet"] == pytest.approx(240, rel=0.02)


def test_one_stage_that_is_slow_says_little_of_the_others(paths: RunPaths, clock: Clock) -> None:
    """What is left moves with what is known, and never jumps."""
    job = Job(paths, STAGES, {"data": 1.0, "calibration": 90.0})
    job.expect(EXPECTED)
    job.begin(Stage.TEACHER)
    said = [job.to_dict()["left_s"]]
    for step in range(1, 100):
        clock.now += 1.8  # three times as long as expected
        job.see("teacher", step, 100, "")
        said.append(job.to_dict()["left_s"])
    jumps = [abs(b - a) for a, b in pairwise(said)]
    assert max(jumps) < 30
    assert 1.5 * 240 < said[-1] < 3 * 240


def test_a_bar_that_names_other_models_by_now_goes_on(paths: RunPaths, clock: Clock) -> None:
    job = Job(paths, STAGES, {"data": 1.0, "calibration": 90.0, "teacher": 60.0})
    job.expect(EXPECTED)
    job.begin(Stage.SUPERNET)
    for step in range(10, 60, 10):
        clock.now += 20.0
        job.see("finishing 1 of 4; 2 of 4", step, 100, "")
    job.see("finishing 2 of 4; 3 of 4", 50, 100, "")
    found = job.to_dict()
    assert found["doing"] == "finishing 2 of 4; 3 of 4: 50 of 100"
    assert found["stage_left_s"] == pytest.approx(100)
    job.see("training after a step back", 0, 100, "")  # another one, which has no pace yet
    assert job.to_dict()["stage_left_s"] == pytest.approx(140)


def test_what_is_done_beside_a_search_is_seen_and_ends_no_run(paths: RunPaths) -> None:
    """Such as a comparison, which needs some of the stages; a run that is done stays done."""

    def beside(error: BaseException | None = None) -> dict[str, object]:
        job = Job(paths, STAGES, {"data": 1.0}, whole=False)
        ends = pytest.raises(type(error)) if error else contextlib.nullcontext()
        with ends, job.kept():
            assert job.begin(Stage.SUPERNET) == f"supernet: {Stage.SUPERNET.meaning}"
            job.finish(Stage.SUPERNET)
            job.see("trained alone", 3, 40, "")
            found = job.to_dict()
            assert (found["state"], found["stage"]) == ("running", None)
            assert found["doing"] == "trained alone: 3 of 40"
            if error:
                raise error
        return kept(paths)

    found = beside()
    assert found["state"] == "stopped"
    states = [row["state"] for row in found["stages"]]
    assert states == ["done", "to come", "to come", "done"]
    assert beside(RuntimeError("no room"))["error"] == "no room"
    with Job(paths, STAGES, {"data": 1.0}).kept():
        pass
    for error in (None, RuntimeError("no room"), KeyboardInterrupt()):
        found = beside(error)
        assert (found["state"], found["error"]) == ("done", "")


def test_stages_that_were_skipped_are_over(paths: RunPaths) -> None:
    job = Job(paths, STAGES, {})
    job.begin(Stage.SUPERNET)
    assert [row["state"] for row in job.to_dict()["stages"]] == ["done"] * 3 + ["now"]


def test_bars_tell_the_job_and_end_with_the_time_left(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitpareto.search.console.EVERY_S", 0.01)
    with following(Job(paths, STAGES, {})) as job:
        assert current_job() is job
        job.expect(EXPECTED)
        job.begin(Stage.SUPERNET)
        with progress(4, "supernet") as bar:
            for _ in range(4):
                time.sleep(0.02)
                bar.update()
        assert job.to_dict()["doing"] == "supernet: 4 of 4"
    assert current_job() is None
    lines = capsys.readouterr().err.splitlines()
    assert any("4 of 4 steps, " in line and ", 00:00 left" in line for line in lines)
    said = [line for line in lines if "2 of 4 steps, " in line]
    assert re.search(r"supernet: .*, 0[1-4]:\d\d left, about [345] min left in all", said[0])


def test_a_bar_of_no_job_says_what_is_left_at_its_pace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitpareto.search.console.EVERY_S", 0.01)
    with progress(1000, "reading") as bar:
        time.sleep(0.05)
        bar.update(5)
        assert re.search(
            r"reading: 5 of 1000 steps, .*, 00:(09|1\d) left$", capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "done"), (KeyboardInterrupt(), "stopped"), (ValueError("x"), "failed")],
)
def test_the_file_says_how_it_ended(
    paths: RunPaths, error: BaseException | None, state: str
) -> None:
    def work() -> None:
        with following(Job(paths, STAGES, {})):
            for _ in range(200):  # the first version is there at once
                if paths.progress.exists():
                    break
                time.sleep(0.01)
            assert kept(paths)["state"] == "running"
            assert kept(paths)["pid"] == os.getpid()
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            work()
    else:
        work()
    found = kept(paths)
    assert found["state"] == state
    assert found["error"] == ("x" if state == "failed" else "")


def test_a_discarded_folder_stays_away(paths: RunPaths) -> None:
    with pytest.raises(ValueError, match="bad"), following(Job(paths, STAGES, {})):
        for _ in range(200):
            if paths.progress.exists():
                break
            time.sleep(0.01)
        for path in (paths.progress, paths.config):
            path.unlink()
        paths.path.rmdir()
        raise ValueError("bad")
    assert not paths.path.exists()


def test_a_full_run_leaves_its_progress(finished: Path) -> None:
    found = kept(RunPaths(finished))
    assert (found["state"], found["left_s"]) == ("done", 0.0)
    stages = [step.stage for step in steps_of(load_config(finished / "config.yaml"))]
    assert [row["state"] for row in found["stages"]] == ["done"] * len(stages)  # type: ignore
    log = (finished / "log.txt").read_text()
    for number, stage in enumerate(stages, 1):
        assert f"stage {number} of {len(stages)}: {stage.value}: {stage.meaning}" in log
    assert log.count("left in all") >= len(stages) - 1  # all but the first know it


@pytest.mark.parametrize(("seconds", "words"), [(0, "10 s"), (3599, "60 min"), (7200, "2.0 h")])
def test_durations(seconds: float, words: str) -> None:
    assert spoken(seconds) == words
