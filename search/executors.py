"""Executors: the standard library's protocol in this thread, in processes or on a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from ..cost_models.openmp import wait_briefly
from ..spaces.errors import RunError
from .config import ExecutorConfig

P = ParamSpec("P")
T = TypeVar("T")

LOSSES = 3  # workers or nodes that one call may lose; then the call itself is to blame


def open_executor(config: ExecutorConfig) -> Executor:
    """The executor of a run.

    Raises:
        RunError: no Ray cluster answers at the address.
    """
    threads = max(1, config.threads)
    if config.kind == "ray":
        return RayExecutor(config.workers, threads, config.address, config.gpus)
    return ProcessExecutor(config.workers, threads) if config.workers > 1 else LocalExecutor()


class LocalExecutor(Executor):
    """Runs each call at once, in the calling thread."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call now; an interrupt is raised here, an error where the result is asked for."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # any error is for the caller to handle
            future.set_exception(error)
        return future


@dataclass(slots=True)
class _Call:
    """A call that waits or runs."""

    function: int
    args: tuple[Any, ...]
    future: Future[Any]
    losses: int = 0


class _Crew(Executor):
    """Workers that take one call at a time; the next call goes to an idle one.

    A worker that dies is replaced, and its call goes to another one; a call that loses one worker
    after the other ends with `BrokenExecutor`, and the other calls go on. Each function is sent
    to a worker once, however large it is.
    """

    def __init__(self, workers: int) -> None:
        self._lock = threading.RLock()
        self._functions: list[Callable[..., Any]] = []
        self._waiting: deque[_Call] = deque()
        self._idle: deque[Any] = deque()
        self._failed_starts, self._closed = 0, False
        self._refusal: RunError | None = None  # of all calls, since no worker can be started
        for _ in range(workers):
            self._hire()

    @abstractmethod
    def _hire(self) -> None:
        """Begin to start a worker; `_join` or `_fail_to_start` follows."""

    @abstractmethod
    def _start(self, worker: Any, call: _Call) -> Future[Any]:
        """Let a worker begin a call."""

    @abstractmethod
    def _is_loss(self, error: BaseException) -> bool:
        """Whether an error means that the worker is dead."""

    def _result(self, done: Future[Any]) -> Any:
        """Result of a finished call."""
        return done.result()

    @abstractmethod
    def _publish(self, function: Callable[..., Any]) -> None:
        """Prepare for the workers the function just added to `_functions`."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call for the next idle worker; keyword arguments are not passed on."""
        assert not kwargs
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            known = [n for n, function in enumerate(self._functions) if function is fn]
            if not known:
                self._functions.append(fn)
                self._publish(fn)
            number = known[0] if known else len(self._functions) - 1
            if self._refusal:
                future.set_exception(self._refusal)
            else:
                self._waiting.append(_Call(number, args, future))
                self._dispatch()
        return future

    def _join(self, worker: Any) -> None:
        with self._lock:
            self._failed_starts = 0
            self._idle.append(worker)
            self._dispatch()

    def _fail_to_start(self, error: BaseException) -> None:
        with self._lock:
            self._failed_starts += 1
            if self._closed:
                return
            if self._failed_starts < 10:
                self._hire()
                return
            self._refusal = RunError(f"no worker can be started: {error}")
            for call in self._waiting:
                call.future.set_exception(self._refusal)
            self._waiting.clear()

    def _dispatch(self) -> None:
        while self._idle and self._waiting and not self._closed:
            worker, call = self._idle.popleft(), self._waiting.popleft()
            self._start(worker, call).add_done_callback(partial(self._finish, worker, call))

    def _finish(self, worker: Any, call: _Call, done: Future[Any]) -> None:
        error = done.exception()
        with self._lock:
            lost = error is not None and self._is_loss(error)
            if lost and not self._closed:
                call.losses += 1
                if call.losses < LOSSES:
                    self._waiting.appendleft(call)
                self._hire()
            elif not lost:
                self._idle.append(worker)
            self._dispatch()
        if lost and call.losses >= LOSSES:
            call.future.set_exception(BrokenExecutor(f"lost {LOSSES} workers one after the other"))
        elif error is not None and not lost:
            call.future.set_exception(error)
        elif not lost:
            call.future.set_result(self._result(done))


class ProcessExecutor(_Crew):
    """Runs calls in processes of this machine.

    Arguments and results are pickled here: by the queue's own pickler torch would move every
    tensor to a file in shared memory, which takes two descriptors and lets both sides write to it.

    Args:
        workers: processes.
        threads: of torch in each of them.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self._threads = threads
        self._pickled: list[bytes] = []
        self._sent: dict[int, set[int]] = {}  # id of a worker -> functions that it has
        self._workers: list[ProcessPoolExecutor] = []
        super().__init__(workers)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes."""
        with self._lock:
            self._closed = True
        for worker in self._workers:
            worker.shutdown(wait, cancel_futures=cancel_futures)

    def _hire(self) -> None:
        worker = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), _prepare, (self._threads,)
        )
        self._workers.append(worker)
        self._sent[id(worker)] = set()
        worker.submit(os.getpid).add_done_callback(partial(self._started, worker))

    def _started(self, worker: ProcessPoolExecutor, done: Future[int]) -> None:
        error = done.exception()
        if error is None:
            self._join(worker)
        else:
            self._fail_to_start(error)

    def _start(self, worker: ProcessPoolExecutor, call: _Call) -> Future[Any]:
        sent = self._sent[id(worker)]
        raw = b"" if call.function in sent else self._pickled[call.function]
        sent.add(call.function)
        try:
            return worker.submit(_call_in_process, call.function, raw, pickle.dumps(call.args))
        except BrokenExecutor as error:  # it died while it was idle
            lost: Future[Any] = Future()
            lost.set_exception(error)
            return lost

    def _is_loss(self, error: BaseException) -> bool:
        return isinstance(error, BrokenExecutor)

    def _result(self, done: Future[Any]) -> Any:
        return pickle.loads(done.result())

    def _publish(self, function: Callable[..., Any]) -> None:
        self._pickled.append(pickle.dumps(function))


_received: dict[int, Callable[..., Any]] = {}


def _call_in_process(number: int, raw: bytes, args: bytes) -> bytes:
    if raw:
        _received[number] = pickle.loads(raw)
    return pickle.dumps(_received[number](*pickle.loads(args)))


def _prepare(threads: int) -> None:
    """Set up a new process."""
    wait_briefly()
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver to act on
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class RayExecutor(_Crew):
    """Runs calls on actors of a Ray cluster.

    Functions go to the object store once. Actors for which there is no room yet are started
    when a node joins.

    Args:
        workers: actors.
        threads: of torch in each of them, and the cores that Ray reserves for it.
        address: of a cluster; empty starts one on this machine.
        gpus: that Ray reserves for each actor.

    Raises:
        RunError: no cluster answers.
    """

    def __init__(self, workers: int, threads: int, address: str = "", gpus: float = 0.0) -> None:
        import ray
        from ray.exceptions import RayActorError

        self._ray, self._lost = ray, RayActorError
        self._opened = open_cluster(address, workers * threads)
        # An idle actor repeats a lost call: a restarted one might wait for a node forever.
        self._actor: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(_Worker)
        self._threads = threads
        self._references: list[Any] = []
        super().__init__(workers)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, and stop it if it was started here."""
        with self._lock:
            self._closed = True
            self._idle.clear()
        if self._opened:
            self._ray.shutdown()

    def _hire(self) -> None:
        actor = self._actor.remote(self._threads)
        actor.ready.remote().future().add_done_callback(partial(self._started, actor))

    def _started(self, actor: Any, done: Future[bool]) -> None:
        error = done.exception()
        if error is None:
            self._join(actor)
        else:
            self._fail_to_start(error)

    def _start(self, worker: Any, call: _Call) -> Future[Any]:
        # In a list, so that Ray hands over the reference and the actor fetches it once.
        held = [self._references[call.function]]
        return worker.call.remote(call.function, held, *call.args).future()

    def _is_loss(self, error: BaseException) -> bool:
        return isinstance(error, self._lost)

    def _publish(self, function: Callable[..., Any]) -> None:
        self._references.append(self._ray.put(function))


def open_cluster(address: str, cpus: int) -> bool:
    """Join a Ray cluster, or start one here; false if this process is in one already.

    Args:
        address: of the cluster; empty starts one.
        cpus: of a cluster started here.

    Raises:
        RunError: no cluster answers.
    """
    import ray

    if ray.is_initialized():
        return False
    try:
        _knock(address)
        ray.init(
            address=address or "local",  # else it joins a cluster that runs here
            num_cpus=None if address else cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise RunError(f"executor.address {address!r}: {error}") from error
    return True


def check_address(config: ExecutorConfig) -> None:
    """Check that something listens at the address of the Ray cluster, if one is given.

    Raises:
        RunError: nothing does.
    """
    if config.kind == "ray":
        try:
            _knock(config.address)
        except OSError as error:
            raise RunError(f"executor.address {config.address!r}: {error}") from error


def _knock(address: str) -> None:
    """Fail at once where nothing listens; Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


class _Worker:
    """Actor that runs calls."""

    def __init__(self, threads: int) -> None:
        wait_briefly()  # the node may have another environment than the driver
        import torch

        torch.set_num_threads(threads)
        self._functions: dict[int, Callable[..., Any]] = {}

    def ready(self) -> bool:
        return True

    def call(self, number: int, held: list[Any], *args: Any) -> Any:
        if number not in self._functions:
            import ray

            self._functions[number] = ray.get(held[0])
        return self._functions[number](*args)
