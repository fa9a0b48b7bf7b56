import os
import time
from concurrent.futures import BrokenExecutor

import pytest

from vitpareto.search.executors import LocalExecutor, RayExecutor


def test_local_calls_at_once() -> None:
    with LocalExecutor() as executor:
        future = executor.submit(pow, 2, 5)
        assert future.done()
        assert future.result() == 32
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0)


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
