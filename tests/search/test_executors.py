import os
import resource
import time
from concurrent.futures import BrokenExecutor

import pytest
import torch

from vitpareto.search.executors import LocalExecutor, ProcessExecutor, RayExecutor
from vitpareto.spaces.errors import RunError


def test_local_calls_at_once() -> None:
    with LocalExecutor() as executor:
        future = executor.submit(pow, 2, 5)
        assert future.done()
        assert future.result() == 32
        failed = executor.submit(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            failed.result()


def test_many_tensors_need_no_descriptors() -> None:
    sent = {str(number): torch.full((3,), number) for number in range(600)}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with ProcessExecutor(1, 1) as executor:
            returned = executor.submit(dict, sent).result(60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(torch.equal(returned[name], tensor) for name, tensor in sent.items())


class NoWorkers(ProcessExecutor):
    """Whose processes all fail to start."""

    def _hire(self) -> None:
        self._fail_to_start(OSError("no memory"))


def test_where_no_worker_starts_no_call_waits_for_one() -> None:
    with NoWorkers(2, 1) as executor:
        for future in [executor.submit(pow, 2, n) for n in range(3)]:
            with pytest.raises(RunError, match="no worker can be started: no memory"):
                future.result(5)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_survives_what_kills_its_workers() -> None:
    def task(n: int) -> int:
        if n == 3:
            os._exit(1)
        if n == 5:
            raise ValueError("five")
        time.sleep(0.01)
        return n * n

    with RayExecutor(workers=2, threads=1) as executor:
        futures = [executor.submit(task, n) for n in range(12)]
        for n, future in enumerate(futures):
            if n == 3:
                with pytest.raises(BrokenExecutor):
                    future.result(120)
            elif n == 5:
                with pytest.raises(ValueError, match="five"):
                    future.result(120)
            else:
                assert future.result(120) == n * n
