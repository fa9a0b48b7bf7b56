"""How long threads wait for each other: briefly where this trains, as usual where it measures."""

import os
import subprocess
import sys

import pytest

from vitpareto.cost_models.openmp import BRIEFLY, CHOSEN, ROUNDS, usual_environment, wait_briefly
from vitpareto.search.executors import ProcessExecutor


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in CHOSEN:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.usefixtures("free")
def test_what_this_starts_waits_briefly_and_what_measures_does_not() -> None:
    wait_briefly()
    assert os.environ[ROUNDS] == BRIEFLY
    assert ROUNDS not in usual_environment()
    assert usual_environment().items() <= os.environ.items()


@pytest.mark.parametrize("name", CHOSEN)
def test_who_chose_otherwise_is_left_alone(free: pytest.MonkeyPatch, name: str) -> None:
    free.setenv(name, "7")
    wait_briefly()
    assert {n: os.environ.get(n) for n in CHOSEN} == dict.fromkeys(CHOSEN) | {name: "7"}
    assert usual_environment()[name] == "7"


@pytest.mark.slow  # a process that imports torch, of which only another release can change this
@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux alone")
def test_torch_takes_it() -> None:
    program = "from vitpareto.cost_models.openmp import wait_briefly\nwait_briefly()\nimport torch"
    environment = {n: v for n, v in os.environ.items() if n not in CHOSEN}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{ROUNDS} = '{BRIEFLY}'" in done.stderr


@pytest.mark.usefixtures("free")
def test_workers_wait_briefly_whatever_started_them() -> None:
    with ProcessExecutor(workers=1, threads=1) as executor:
        assert executor.submit(os.getenv, ROUNDS).result(120) == BRIEFLY
