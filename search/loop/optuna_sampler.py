"""Sampler: ask and tell over an Optuna study; nothing else knows Optuna."""

from __future__ import annotations

import contextlib
import json
import warnings
import weakref
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zlib import crc32

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ...spaces.errors import ConfigError, RunError, first_line
from ...spaces.parameter import Scalar
from ..pareto.objectives import MAXIMIZED
from ..samplers import SAMPLERS
from .task import Proposer, Task, Told

optuna.logging.set_verbosity(optuna.logging.ERROR)

# Attributes of a trial: key of its candidate, scores, and driver.
KEY, SCORES, DRIVER = "key", "scores", "driver"
SECONDS = 10.0  # in which a storage behind a proxy must answer


@dataclass(frozen=True, slots=True)
class Proposal:
    """One trial that was asked for and not yet told.

    Attributes:
        number: of the trial, from 0.
        assignment: name of a choice -> value.
    """

    number: int
    assignment: Mapping[str, Scalar]


class Sampler:
    """Ask and tell over an Optuna study.

    The same seed and the same answers in the same order give the same proposals, so a study is
    resumed by replaying it; the journal is written anew and can be opened by optuna-dashboard.
    A study in a storage is shared instead: each driver goes on from what all have told. Trials
    that a killed driver left unfinished are queued again when its run folder is opened again,
    and go to the driver that asks first; as a folder has one driver at a time, they are not
    under way anywhere else.

    Args:
        name: of an entry of `SAMPLERS`.
        task: space, objectives, costs, seed; a genetic population is a tenth of its trials, 10
            to 50.
        journal: file for a copy of the study, replaced if it exists.
        storage: shared by several drivers, instead of a journal: URL of a database as SQLAlchemy
            writes it, or grpc://HOST:PORT of Optuna's proxy.
        driver: name of the run folder among those that share a storage.

    Raises:
        UnknownNameError: no such sampler.
        ConfigError: a plugin's sampler is not one.
        RunError: the storage cannot be opened, or its study has other objectives.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        journal: Path | None = None,
        storage: str = "",
        driver: str = "",
    ) -> None:
        make = SAMPLERS.find(name)
        if storage:  # otherwise drivers with one seed would all try the same
            task = replace(task, seed=(task.seed + crc32(driver.encode())) % 2**31)
        self._space, self._objectives = task.space, [o for o in task.objectives if o.traded]
        self._choices = {p.name: CategoricalDistribution(p.values) for p in task.space.parameters}
        self._fixed, self._next = _Fixed(), dict[str, Scalar]()
        directions = [
            StudyDirection.MAXIMIZE if o.maximize else StudyDirection.MINIMIZE
            for o in self._objectives
        ]
        self._storage, self._driver = storage, driver
        self._trials = task.trials if storage else None
        self._open: dict[int, optuna.Trial] = {}
        with self._reported(), warnings.catch_warnings():
            # Tests here pin what Optuna calls experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made = _checked(name, make(task))
            self._proposer = made if isinstance(made, Proposer) else None
            self._study = optuna.create_study(
                study_name=task.space.name,
                storage=self._opened(storage),
                sampler=made if isinstance(made, BaseSampler) else self._fixed,
                directions=directions,
                load_if_exists=bool(storage),
            )
            self._check_objectives()
            self._study.set_metric_names([o.name for o in self._objectives])
            self._journal = _Journal(journal, self._study) if journal and not storage else None
            self._take_up()

    def _opened(self, storage: str) -> BaseStorage | None:
        """A shared storage, whose connections end with this sampler; None for none."""
        opened = _shared(storage) if storage else None
        if isinstance(opened, RDBStorage):
            weakref.finalize(self, opened.engine.dispose)
        return opened

    def ask(self) -> Proposal | None:
        """The next assignment to try; None if there is nothing left.

        Raises:
            RunError: the storage does not answer, or its study has other choices.
        """
        if self.all_begun():
            return None
        with self._reported():
            if self._proposer and not self._next:
                proposed = self._proposer.propose(self._history)
                if proposed is None:
                    return None
                # With what it leaves out, so that the trial has the choices of its candidate.
                _, self._next = self._space.resolve(proposed)
                self._fixed.assignment = self._next
            trial = self._study.ask(dict(self._choices))
            assignment = trial.params
            if all(assignment[name] == value for name, value in self._next.items()):
                # Otherwise this is a trial queued again, and the proposal waits for the next one.
                assignment, self._next = self._next or assignment, {}
            if self._driver:
                trial.set_user_attr(DRIVER, self._driver)
        self._open[trial.number] = trial
        return Proposal(trial.number, assignment)

    def all_begun(self) -> bool:
        """Whether the searches of a shared storage have together begun all their trials.

        Raises:
            RunError: the storage does not answer.
        """
        if self._trials is None:
            return False
        with self._reported():
            trials = self._study.get_trials(False)
        ended = sum(t.state.is_finished() and KEY in t.user_attrs for t in trials)
        return ended + sum(t.state == TrialState.RUNNING for t in trials) >= self._trials

    def tell(
        self,
        proposal: Proposal,
        key: str,
        metrics: Mapping[str, float],
        violations: Mapping[str, float],
    ) -> None:
        """Report the metrics of a proposal.

        Args:
            proposal: from `ask`.
            key: of the candidate that it became.
            metrics: values by name; accuracy may be missing where it was not worth scoring.
            violations: relative excess over each limit, at most 0 where it is kept. Optuna adds
                them up, which only works for ratios.
        """
        trial = self._open.pop(proposal.number)
        with self._reported():
            trial.set_user_attr(KEY, key)
            for name, value in violations.items():
                trial.set_constraint(name, value)
            scores = {name: metrics[name] for name in MAXIMIZED if name in metrics}
            trial.set_user_attr(SCORES, scores)
            self._study.tell(trial, [metrics.get(o.name, 0.0) for o in self._objectives])
        self._write()

    def fail(self, proposal: Proposal, key: str) -> None:
        """Report that a proposal could not be scored."""
        trial = self._open.pop(proposal.number)
        with self._reported():
            trial.set_user_attr(KEY, key)
            self._study.tell(trial, state=TrialState.FAIL)
        self._write()

    def _take_up(self) -> None:
        """Queue again the trials that this driver left unfinished when it was killed."""
        for trial in self._study.get_trials(False, (TrialState.RUNNING,)):
            if self._driver and trial.user_attrs.get(DRIVER) == self._driver:
                self._study.enqueue_trial(trial.params)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _check_objectives(self) -> None:
        """Check that a shared study has the objectives of this search.

        Raises:
            ValueError: it has others.
        """
        wanted = [(o.name, o.maximize) for o in self._objectives]
        names = self._study.metric_names or [name for name, _ in wanted]
        actual = [
            (name, direction == StudyDirection.MAXIMIZE)
            for name, direction in zip(names, self._study.directions, strict=False)
        ]
        if actual != wanted:
            raise ValueError(f"the study {self._study.study_name!r} has the objectives {names!r}")

    def _history(self) -> list[Told]:
        """All trials; those under way have no scores."""
        begun = (TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING)
        trials = self._study.get_trials(False, begun)
        return [Told(t.params, t.user_attrs.get(SCORES, {})) for t in trials if t.params]

    @contextlib.contextmanager
    def _reported(self) -> Generator[None]:
        """Turn the errors of a shared storage into one with a single line."""
        if not self._storage:
            yield
            return
        from sqlalchemy.exc import SQLAlchemyError  # comes with Optuna

        try:
            yield
        except (
            *(ValueError, ImportError, OSError, StorageInternalError, SQLAlchemyError),
            *_proxy_errors(self._storage),
        ) as error:
            raise RunError(f"search.storage: {first_line(error)}") from error

    def _write(self) -> None:
        if self._journal:
            self._journal.write(self._study.get_trials(deepcopy=False))


def _checked(name: str, made: object) -> BaseSampler | Proposer:
    """The sampler or proposer that the entry of that name has made.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(made, BaseSampler | Proposer):
        return made
    raise ConfigError(
        f"sampler {name!r}: its entry must make a Proposer or a sampler of Optuna, "
        f"made {type(made).__name__}"
    )


def _shared(storage: str) -> BaseStorage:
    """Storage by its URL."""
    scheme, _, address = storage.partition("://")
    if scheme != "grpc":
        return RDBStorage(storage)
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError(f"need grpc://HOST:PORT, got {storage!r}")
    proxy = GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(SECONDS)
    return proxy


def _proxy_errors(storage: str) -> tuple[type[Exception], ...]:
    """Errors that calls through a proxy raise."""
    if not storage.startswith("grpc://") or find_spec("grpc") is None:
        return ()
    from grpc import RpcError  # pyright: ignore[reportMissingModuleSource]

    return (RpcError,)


class _Fixed(BaseSampler):
    """Gives a trial its fixed assignment, and a choice without effect its first value."""

    def __init__(self) -> None:
        self.assignment: Mapping[str, Scalar] = {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        assert isinstance(param_distribution, CategoricalDistribution)
        return self.assignment.get(param_name, param_distribution.choices[0])


class _Journal:
    """A copy of a study in the format of Optuna's journal, a line a trial.

    The study itself is in memory, where Optuna is fast. Nothing is lost with the last lines: the
    journal is written anew from the evaluations when a run is resumed.

    Args:
        path: of the file, replaced if it exists.
        study: to be copied; it has no trials yet.
    """

    def __init__(self, path: Path, study: optuna.Study) -> None:
        path.unlink(missing_ok=True)
        self._file, self._written = _File(path), 0
        self._copy = optuna.create_study(
            study_name=study.study_name,
            storage=JournalStorage(self._file),
            directions=study.directions,
        )
        self._copy.set_metric_names(study.metric_names or [])

    def write(self, trials: Sequence[FrozenTrial]) -> None:
        """Append the trials that have ended, by number, up to the first that still runs.

        Args:
            trials: all of the study.

        Raises:
            RunError: the file cannot be written.
        """
        for trial in trials[self._written :]:
            if not trial.state.is_finished():
                break
            self._copy.add_trial(trial)
            self._written += 1
        self._file.flush()


class _File(BaseJournalBackend):
    """The file of a journal with one process: its own lines need no lock, and are not read."""

    def __init__(self, path: Path) -> None:
        self._path, self._unread, self._lines = path, list[dict[str, Any]](), list[str]()

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        unread, self._unread = self._unread, []
        return unread

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._unread += logs
        self._lines += [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]

    def flush(self) -> None:
        """Write the lines logged so far."""
        try:
            with self._path.open("a") as file:
                file.writelines(self._lines)
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._lines.clear()
