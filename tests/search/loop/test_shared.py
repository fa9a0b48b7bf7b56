"""Several drivers that share one study, in each kind of storage that they may share."""

import gc
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from vitpareto.search.executors import LocalExecutor
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.study import Study, Until
from vitpareto.search.loop.task import Task
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError

from .test_reliability import OBJECTIVES, ROOT, costs, score

SLOW = pytest.mark.slow
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]


@pytest.fixture(
    params=["sqlite", pytest.param("grpc", marks=SLOW), pytest.param("postgresql", marks=SLOW)]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A storage that nobody has used."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    elif request.param == "grpc":
        pytest.importorskip("grpc")
        yield from proxy(f"sqlite:///{tmp_path}/behind.db")
    else:
        pytest.importorskip("psycopg")
        yield from postgres(tmp_path / "postgres")


def proxy(behind: str) -> Iterator[str]:
    """Optuna's proxy server in front of a database."""
    port = free_port()
    script = f"import optuna; optuna.storages.run_grpc_proxy_server(\
        optuna.storages.RDBStorage({behind!r}), host='localhost', port={port})"
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script]) as server:
        wait_for(port)
        yield f"grpc://localhost:{port}"
        server.kill()


def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of our own."""
    if not (shutil.which("initdb") and shutil.which("postgres")):
        pytest.skip("no PostgreSQL server is installed")
    folder.mkdir()
    # It refuses to be run by root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    shutil.chown(folder, user)
    for above in (folder, *folder.parents[:3]):
        if os.geteuid() == 0 and above.owner() == "root":
            above.chmod(0o755)
    data, port = folder / "data", free_port()
    subprocess.run(
        ["initdb", "-D", data, "-U", "vit", "--auth=trust", "--no-sync"],
        check=True,
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    command = ["postgres", "-D", data, "-p", str(port), "-k", folder, "-F"]
    with subprocess.Popen(command, user=user, cwd=folder, stderr=subprocess.DEVNULL) as server:
        wait_for(port)
        time.sleep(0.5)  # it listens before it serves
        yield f"postgresql+psycopg://vit@localhost:{port}/postgres"
        gc.collect()  # Optuna leaves connections open, of which psycopg complains
        server.send_signal(signal.SIGINT)  # does not wait for those who are connected


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def driver(
    space: SearchSpace,
    folder: Path,
    url: str,
    name: str,
    trials: int,
    window: int = 1,
    scorer=score,
) -> Study:
    """A driver with a run folder of its own."""
    folder.mkdir(exist_ok=True)
    task = Task(space, OBJECTIVES, costs, 0, trials)
    scores = Scores(scorer, LocalExecutor(), EvaluationLog(folder / "evaluations.jsonl"))
    return Study(task, Sampler(name, task, storage=url, driver=folder.name), scores, window)


def trials_in(url: str, space: SearchSpace) -> list[optuna.trial.FrozenTrial]:
    """All trials of the shared study."""
    if url.startswith("grpc"):
        host, port = url.removeprefix("grpc://").split(":")
        storage = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    else:
        storage = optuna.storages.RDBStorage(url)
    trials = optuna.load_study(study_name=space.name, storage=storage).get_trials()
    if not url.startswith("grpc"):
        storage.engine.dispose()
    return trials


def test_two_drivers_at_once(space: SearchSpace, tmp_path: Path, url: str) -> None:
    drivers = [
        driver(space, tmp_path / name, url, sampler, 16)
        for name, sampler in (("one", "surrogate"), ("other", "nsga2"))
    ]
    threads = [threading.Thread(target=d.run, args=(Until(100),)) for d in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    found = trials_in(url, space)
    assert 16 <= len(found) <= 17  # both may begin what is the last one
    assert {t.state for t in found} == {optuna.trial.TrialState.COMPLETE}
    assert sum(d.told for d in drivers) == len(found)
    assert {d.run(Until(100)) for d in drivers} == {"trials"}, "not every candidate was tried"
    assert Counter(t.user_attrs["driver"] for t in found) == {
        "one": drivers[0].told,
        "other": drivers[1].told,
    }
    assert all(d.told > 2 for d in drivers)
    first = [next(t for t in found if t.user_attrs["driver"] == n).params for n in ("one", "other")]
    assert first[0] != first[1]


SCRIPT = textwrap.dedent("""
    import sys, time
    from tests.search.loop.test_shared import *

    scored = []

    def stuck(candidate, known):
        scored.append(candidate)
        if len(scored) == 4:
            print("stuck", flush=True)
            time.sleep(60)
        return score(candidate, known)

    space, folder, url, name = SearchSpace.from_text(sys.argv[1]), *sys.argv[2:5]
    driver(space, Path(folder) / "dead", url, name, 12, window=3, scorer=stuck).run(Until(100))
""")


@pytest.mark.parametrize("name", ["nsga2", pytest.param("surrogate", marks=SLOW)])
def test_what_a_dead_driver_was_at_is_tried_again(
    space: SearchSpace, tmp_path: Path, url: str, name: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, space.to_yaml(), tmp_path, url, name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "stuck\n"
        process.kill()
    running = optuna.trial.TrialState.RUNNING
    left = [t.params for t in trials_in(url, space) if t.state == running]
    assert left
    # Another driver leaves them alone: for all that it knows, somebody is at them.
    driver(space, tmp_path / "live", url, "random", 8).run(Until(100))
    assert [t.params for t in trials_in(url, space) if t.state == running] == left
    driver(space, tmp_path / "dead", url, name, 12).run(Until(100))
    found = trials_in(url, space)
    assert not [t for t in found if t.state == running]
    whole = [t for t in found if t.state == optuna.trial.TrialState.COMPLETE]
    assert len(whole) == 12
    assert len(found) == 12 + len(left)
    assert all(params in [t.params for t in whole] for params in left)


def test_who_comes_when_all_trials_have_begun_is_told(
    space: SearchSpace, tmp_path: Path, url: str
) -> None:
    """It has scored nothing that it could choose from."""
    first = driver(space, tmp_path / "first", url, "random", 4)
    assert first.run(Until(100)) == "trials"
    with pytest.raises(
        RunError, match=r"search\.storage: others .* got search\.trials 4: raise it"
    ):
        driver(space, tmp_path / "late", url, "random", 4).run(Until(100))
    assert driver(space, tmp_path / "late", url, "random", 6).run(Until(100)) == "trials"
    for name in ("first", "late"):  # what is resumed has its own
        assert driver(space, tmp_path / name, url, "random", 6).run(Until(100)) == "trials"


def test_what_is_no_storage_of_this_study(space: SearchSpace, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    task = Task(space, OBJECTIVES, costs, 0, 30)
    Sampler("nsga2", task, storage=url)
    other = Task(space, [Objective("accuracy"), Objective("params")], costs, 0, 30)
    with pytest.raises(RunError, match="objectives"):
        Sampler("nsga2", other, storage=url)
    for wrong in ("nonsense://", f"sqlite:///{tmp_path}/none/study.db", "grpc://here"):
        with pytest.raises(RunError, match=r"search\.storage: ") as raised:
            Sampler("nsga2", task, storage=wrong)
        assert "\n" not in str(raised.value)
