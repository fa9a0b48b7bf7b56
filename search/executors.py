"""Executors: the standard library's `Executor` protocol, in this process or on a Ray cluster."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, ParamSpec, TypeVar

import torch

from ..spaces.errors import RunError
from .config import ExecutorConfig

P = ParamSpec("P")
T = TypeVar("T")

RETRIES = 2  # of a task whose worker or node was lost; a third loss is the candidate's own doing


def open_executor(config: ExecutorConfig) -> Executor:
    """The executor of a run.

    Raises:
        RunError: no Ray cluster answers at the address.
    """
    if config.kind == "local":
        return LocalExecutor()
    return RayExecutor(config.workers, max(1, config.threads), config.address)


class LocalExecutor(Executor):
    """Runs each call at once, in the calling thread."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call now; what the function raises is raised here, interrupts too."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class RayExecutor(Executor):
    """Runs calls on actors of a Ray cluster.

    The function goes to the object store once, so a large evaluator travels once a node. A lost
    actor is started again and its call repeated; a call that loses it again and again ends with
    `BrokenExecutor`, and the other calls go on.

    Args:
        workers: actors.
        threads: of torch in each of them, and the cores that Ray reserves for it.
        address: of a cluster; empty starts one on this machine.

    Raises:
        RunError: no cluster answers.
    """

    def __init__(self, workers: int, threads: int, address: str = "") -> None:
        import ray
        from ray.exceptions import RayActorError

        self._ray, self._lost = ray, RayActorError
        self._started = not ray.is_initialized()
        if self._started:
            try:
                ray.init(
                    address=address or None,
                    num_cpus=None if address else workers * threads,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise RunError(f"executor.address {address!r}: {error}") from error
        actor: Any = ray.remote(num_cpus=threads, max_restarts=-1, max_task_retries=RETRIES)
        self._idle = deque(actor(_Worker).remote(threads) for _ in range(workers))
        self._waiting: deque[tuple[Any, tuple[Any, ...], Future[Any]]] = deque()
        self._functions: dict[int, tuple[object, Any]] = {}
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call for the next idle actor; keyword arguments are not passed on."""
        assert not kwargs
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if id(fn) not in self._functions:
                self._functions[id(fn)] = (fn, self._ray.put(fn))  # fn is kept, so its id stays
            self._waiting.append((self._functions[id(fn)][1], args, future))
        self._dispatch()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, and stop it if it was started here."""
        if self._started:
            self._ray.shutdown()

    def _dispatch(self) -> None:
        with self._lock:
            if not self._idle or not self._waiting:
                return
            actor = self._idle.popleft()
            fn, args, future = self._waiting.popleft()
        answer: Future[Any] = actor.call.remote(fn, *args).future()
        answer.add_done_callback(lambda done: self._finish(actor, future, done))

    def _finish(self, actor: Any, future: Future[Any], done: Future[Any]) -> None:
        with self._lock:
            self._idle.append(actor)
        error = done.exception()
        if error is None:
            future.set_result(done.result())
        elif isinstance(error, self._lost):
            future.set_exception(BrokenExecutor("its worker died each time it was tried"))
        else:
            future.set_exception(error)
        self._dispatch()


class _Worker:
    """What an actor is."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return fn(*args)
