"""State of a run as its folder tells it, whatever became of the process."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitpareto.search.config import load_config
from vitpareto.search.console import progress
from vitpareto.search.pipeline import beside_search
from vitpareto.search.run.assets import Run
from vitpareto.search.store.run_folder import RunFolder, RunPaths
from vitpareto.search.watch.page import sections
from vitpareto.search.watch.state import QUIET_S, read_state
from vitpareto.spaces.errors import RunError

from ..conftest import invoke


@pytest.fixture
def paths(finished: Path, tmp_path: Path) -> RunPaths:
    return RunPaths(Path(shutil.copytree(finished, tmp_path / "run")))


def change(paths: RunPaths, **values: object) -> None:
    found = json.loads(paths.progress.read_text()) | {"updated": time.time()} | values
    paths.progress.write_text(json.dumps(found))


def test_a_finished_run(paths: RunPaths) -> None:
    state = read_state(paths)
    assert (state.state, state.error, state.resume) == ("done", "", "")
    assert len(state.log) > 3


def test_a_run_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    assert read_state(RunPaths(tmp_path / "later")).state == "waiting"
    assert read_state(RunPaths(tmp_path)).state == "waiting"  # an empty folder


def test_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    for path in (tmp_path, tmp_path / "photo.jpg"):
        with pytest.raises(RunError, match=r"no run folder: it has no config\.yaml"):
            read_state(RunPaths(path))


def test_a_process_that_works(paths: RunPaths) -> None:
    change(paths, state="running", pid=os.getpid(), host=platform.node())
    assert read_state(paths).state == "running"


def test_a_killed_process_is_not_running(paths: RunPaths) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    change(paths, state="running", pid=process.pid, host=platform.node())
    assert read_state(paths).state == "running"
    process.kill()
    process.communicate()
    assert read_state(paths).state == "stopped"


def test_what_works_beside_a_search_is_running(tmp_path: Path) -> None:
    """A comparison, or a check of the proxy, in a folder whose search was stopped."""
    paths = RunPaths(tmp_path)
    paths.config.write_text(load_config("digits").to_yaml())
    assert read_state(paths).state == "stopped"
    with RunFolder(tmp_path) as folder, beside_search(Run(folder)), progress(2, "alone") as bar:
        bar.update()
        end = time.monotonic() + 30
        while not (paths.progress.exists() and json.loads(paths.progress.read_text())["doing"]):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert read_state(paths).state == "running"
        assert "alone: 1 of 2." in sections(paths)["sections"]["head"]
    assert read_state(paths).state == "stopped"


def test_a_process_that_has_been_silent_is_not_running(paths: RunPaths) -> None:
    silent = {"state": "running", "pid": os.getpid(), "updated": time.time() - QUIET_S - 1}
    for host in (platform.node(), "another"):
        change(paths, **silent, host=host)
        assert read_state(paths).state == "stopped"
    change(paths, state="running", pid=os.getpid(), host="another")
    assert read_state(paths).state == "running"


def test_a_stopped_run_says_how_to_go_on(paths: RunPaths) -> None:
    about = json.loads(paths.environment.read_text())
    about["command"] = ["/bin/vitpareto", "search", "my photos.yaml", "--seed", "1"]
    paths.environment.write_text(json.dumps(about))
    change(paths, state="stopped")
    state = read_state(paths)
    assert state.resume == "vitpareto search 'my photos.yaml' --seed 1 --resume"
    change(paths, state="failed", error="disk full")
    assert read_state(paths).error == "disk full"


def test_a_run_of_an_earlier_release(paths: RunPaths) -> None:
    paths.progress.unlink()
    assert read_state(paths).state == "done"
    paths.report.unlink()
    state = read_state(paths)
    assert state.state == "stopped"
    assert state.progress["stages"][0]["state"] == "done"


def test_the_command_prints_it(paths: RunPaths) -> None:
    result = invoke("watch", paths.path, "--json")
    assert json.loads(result.stdout)["state"] == "done"
    result = invoke("watch", paths.path.parent, "--json")
    assert isinstance(result.exception, RunError)
