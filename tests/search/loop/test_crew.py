"""Executors with workers of their own: processes, and actors on a cluster of real raylets."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path

import pytest

from vitpareto.search.config import load_config
from vitpareto.search.executors import LOSSES, LocalExecutor, ProcessExecutor, RayExecutor
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.study import Study, Until
from vitpareto.search.loop.task import Task
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.safe_yaml import read_yaml

from ..raylets import cluster
from .test_reliability import OBJECTIVES, ROOT, costs, score, wait_for_lines

__all__ = ["cluster"]


def work(n: int) -> tuple[int, int, int]:
    """The square of a number, the threads of torch, and the process; some numbers are bad."""
    import torch

    if n == 3:
        os._exit(1)
    if n == 5:
        raise ValueError("five")
    time.sleep(0.01)
    return n * n, torch.get_num_threads(), os.getpid()


class Heavy:
    """A function that is large, and counts how often it was sent."""

    def __init__(self) -> None:
        self.ballast = b"x" * 2_000_000
        self.pickled = 0

    def __reduce__(self):
        self.pickled += 1
        return Heavy, ()

    def __call__(self, n: int) -> int:
        return n + len(self.ballast)


@pytest.fixture(scope="module", autouse=True)
def _workers_find_this_file() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # Ray starts workers with it
        patch.setenv("RAY_worker_niceness", "0")  # or they starve on a busy machine
        patch.syspath_prepend(str(ROOT))  # and Python with this
        yield


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(workers=2, threads=1) as executor:
        yield executor


def check_bad_calls(executor: Executor) -> set[int]:
    """Every call ends as it should; the processes that answered."""
    futures = [executor.submit(work, n) for n in range(12)]
    seen: set[int] = set()
    for n, future in enumerate(futures):
        if n == 3:
            with pytest.raises(BrokenExecutor, match=f"lost {LOSSES} workers"):
                future.result(120)
        elif n == 5:
            with pytest.raises(ValueError, match="five"):
                future.result(120)
        else:
            square, threads, process = future.result(120)
            assert (square, threads) == (n * n, 1)
            seen.add(process)
    return seen


def test_processes_survive_what_kills_them(processes: ProcessExecutor) -> None:
    assert len(check_bad_calls(processes)) >= 2
    seen, deadline = set[int](), time.monotonic() + 120
    while len(seen) < 2:  # as many as before, once they have started
        seen.add(processes.submit(work, 2).result(120)[2])
        assert time.monotonic() < deadline


def test_a_function_is_sent_once(processes: ProcessExecutor) -> None:
    heavy = Heavy()
    futures = [processes.submit(heavy, n) for n in range(10)]
    assert [f.result(60) for f in futures] == [n + 2_000_000 for n in range(10)]
    assert heavy.pickled == 1


def test_a_process_that_dies_while_idle_is_replaced(processes: ProcessExecutor) -> None:
    os.kill(processes.submit(work, 1).result(60)[2], signal.SIGKILL)
    assert [processes.submit(work, n).result(60)[0] for n in (0, 1, 2)] == [0, 1, 4]


def slow(candidate: Candidate, known: dict[str, float]) -> Evaluation:
    time.sleep(0.4)
    return score(candidate, known)


def search(space: SearchSpace, executor: Executor, path: Path, evaluate=slow) -> EvaluationLog:
    """The log of 40 trials, six at a time."""
    task = Task(space, OBJECTIVES, costs, 0, 100)
    log = EvaluationLog(path)
    study = Study(task, Sampler("nsga2", task), Scores(evaluate, executor, log), window=6)
    assert study.run(Until(40)) == "trials"
    return log


def test_processes_come_to_the_same_in_any_order(
    space: SearchSpace, processes: ProcessExecutor, tmp_path: Path
) -> None:
    logs = [search(space, processes, tmp_path / name, score) for name in ("one", "two")]
    assert logs[0].all() != []
    assert {e.key for e in logs[0].all()} == {e.key for e in logs[1].all()}


@pytest.mark.slow
def test_processes_end_with_their_driver(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, time
        from tests.search.loop.test_crew import *
        if __name__ == "__main__":
            executor = ProcessExecutor(2, 1)
            print(executor.submit(work, 2).result()[2], flush=True)
            time.sleep(60)
    """)
    file = tmp_path / "driver.py"
    file.write_text(script)
    process = subprocess.Popen(
        [sys.executable, file],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    worker = int(process.stdout.readline())
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_is_lost_and_another_joins(space: SearchSpace, cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    log = EvaluationLog(tmp_path / "log")
    task = Task(space, OBJECTIVES, costs, 0, 100)
    with RayExecutor(workers=3, threads=1) as executor:
        assert wait_for_nodes(executor) == {node.node_id for node in nodes}
        study = Study(task, Sampler("nsga2", task), Scores(slow, executor, log), window=6)
        thread = threading.Thread(target=study.run, args=(Until(60),))
        thread.start()  # nodes can only be added from the main thread
        wait_for_lines(tmp_path / "log", 8)
        cluster.remove_node(nodes[0], allow_graceful=False)
        lost_at = len(log)
        cluster.add_node(num_cpus=1)
        thread.join(120)
        assert lost_at < len(log)
        assert study.told == 60
        assert {e.status for e in log.all()} == {"complete"}  # none lost
        assert len(log) == study.scored
        assert nodes[0].node_id not in wait_for_nodes(executor)  # but the new one is at work
    undisturbed = EvaluationLog(tmp_path / "undisturbed")
    scores = Scores(score, LocalExecutor(), undisturbed)
    Study(task, Sampler("nsga2", task), scores, window=6).run(Until(60))
    assert {e.key for e in undisturbed.all()} == {e.key for e in log.all()}


def wait_for_nodes(executor: Executor) -> set[str]:
    """The nodes that answer calls, once there are three."""
    deadline = time.monotonic() + 90
    while True:
        futures = [executor.submit(node_of, n) for n in range(30)]
        if len(found := {future.result(60) for future in futures}) == 3:
            return found
        assert time.monotonic() < deadline


def node_of(n: int) -> str:
    import ray

    time.sleep(0.05)
    return ray.get_runtime_context().get_node_id()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_survives_what_kills_its_workers(cluster) -> None:
    cluster.add_node(num_cpus=2)
    with RayExecutor(workers=2, threads=1) as executor:
        check_bad_calls(executor)
        check_bad_calls(executor)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_of_a_cluster_has_room_for_its_run() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    cluster = fillout_defaults(read_yaml(ROOT / "configs" / "ray" / "aws.yaml"))
    validate_config(cluster)
    scorer, run = cluster["available_node_types"]["scorer"], load_config("cluster").executor
    assert run.kind == "ray"
    assert scorer["max_workers"] * scorer["resources"]["CPU"] >= run.workers * run.threads


def gpus_of(n: int) -> list[int]:
    import ray

    return ray.get_gpu_ids()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_wait_for_the_gpus_that_they_ask_for(cluster) -> None:
    cluster.add_node(num_cpus=2)
    with RayExecutor(workers=1, threads=1, gpus=1.0) as executor:
        future = executor.submit(gpus_of, 0)
        time.sleep(5)
        assert not future.done()  # there are cores, but none with a GPU
        cluster.add_node(num_cpus=1, num_gpus=1)
        assert future.result(120) == [0]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_address_is_no_cluster_of_somebody_else(cluster) -> None:
    import ray

    other = cluster.address
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", other)
        with RayExecutor(workers=1, threads=1) as executor:
            assert executor.submit(pow, 2, 5).result(120) == 32
            assert ray.get_runtime_context().gcs_address != other


@pytest.mark.ray
@pytest.mark.slow
def test_no_cluster_at_the_address() -> None:
    with pytest.raises(RunError, match=r"executor\.address '127\.0\.0\.1:1'"):
        RayExecutor(1, 1, "127.0.0.1:1")
