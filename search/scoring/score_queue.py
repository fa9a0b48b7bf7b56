"""Scores: candidates on their way through an executor to a log, each scored once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial

from ...spaces import Candidate
from ...spaces.errors import RunError
from .evaluation import Evaluation
from .evaluation_log import EvaluationLog

Costs = Mapping[str, float]


class Scores:
    """Scored candidates by key.

    Args:
        evaluate: scores a candidate whose costs are known; must be pure.
        executor: runs it.
        log: evaluations so far; each new one is appended the moment it arrives.
    """

    def __init__(
        self,
        evaluate: Callable[[Candidate, Costs], Evaluation],
        executor: Executor,
        log: EvaluationLog,
    ) -> None:
        self.log = log
        self._evaluate, self._executor = evaluate, executor
        self._under_way: dict[str, Future[Evaluation]] = {}

    def submit(self, candidate: Candidate, costs: Costs) -> None:
        """Start scoring a candidate, unless that was done before."""
        if candidate.key not in self.log and candidate.key not in self._under_way:
            recorded: Future[Evaluation] = Future()
            self._under_way[candidate.key] = recorded
            scored = self._executor.submit(self._evaluate, candidate, costs)
            scored.add_done_callback(partial(self._record, candidate, costs, recorded))

    def result(self, key: str) -> Evaluation:
        """The evaluation of a candidate that was submitted, as soon as it is on disk.

        Raises:
            RunError: it could not be written.
        """
        if key in self._under_way:
            self._under_way[key].result()
            del self._under_way[key]
        return self.log[key]

    def in_full(self, key: str) -> bool:
        """Whether a candidate was scored on all images: always."""
        return True

    def _record(
        self,
        candidate: Candidate,
        costs: Costs,
        recorded: Future[Evaluation],
        scored: Future[Evaluation],
    ) -> None:
        """Write an evaluation down; runs in whatever thread it arrives in."""
        error = scored.exception()
        if isinstance(error, BrokenExecutor):
            evaluation = Evaluation(candidate, "failed", costs, reason=str(error))
        elif error is not None:
            recorded.set_exception(error)
            return
        else:
            evaluation = scored.result()
        try:
            self.log.append(evaluation)
        except RunError as error:
            recorded.set_exception(error)
        else:
            recorded.set_result(evaluation)
