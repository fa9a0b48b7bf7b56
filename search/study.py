"""Study: the loop. Costs come first, scores where they are worth it, and nothing is asked twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass

from ..spaces import Candidate, SearchSpace
from ..spaces.errors import RunError
from .evaluate import Evaluation
from .objectives import Objective, pareto_front, violations
from .progress import progress
from .sampler import Proposal, Sampler
from .store import EvaluationLog

FAILURES = 10  # in a row, and the fault is not the candidates'

Costs = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Trial:
    """A proposal on its way."""

    proposal: Proposal
    candidate: Candidate
    costs: Costs
    violations: Mapping[str, float]

    @property
    def feasible(self) -> bool:
        """Whether the costs keep every limit, so that scoring is worth it."""
        return all(value <= 0 for value in self.violations.values())


class Study:
    """Searches a space.

    Proposals are asked and told in one fixed order, whatever order scores come back in: trial n
    is asked when trial n - window is told. So a study is resumed by running it again from the
    start, with the log answering for all that was scored; it comes to the same candidates.

    Args:
        space: where to search.
        sampler: who proposes.
        objectives: metrics, limits.
        costs: predicted costs of a candidate, by metric.
        evaluate: scores a candidate whose costs are known.
        executor: where it runs.
        log: evaluations so far; new ones are appended.
        window: trials under way at once.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: Sampler,
        objectives: Sequence[Objective],
        costs: Callable[[Candidate], Costs],
        evaluate: Callable[[Candidate, Costs], Evaluation],
        executor: Executor,
        log: EvaluationLog,
        window: int = 1,
    ) -> None:
        self.space, self.objectives, self.log = space, list(objectives), log
        self._sampler, self._costs, self._evaluate = sampler, costs, evaluate
        self._executor, self._window = executor, window
        self._under_way: dict[str, tuple[_Trial, Future[Evaluation]]] = {}
        self._feasible = self._failures = 0

    def run(self, trials: int) -> None:
        """Work through a number of trials, those of an interrupted run included.

        Raises:
            RunError: too many candidates failed one after the other.
        """
        with progress(trials, "search", "trial") as bar:

            def tell_oldest() -> None:
                self._tell(open_trials.popleft())
                share = f"{self._feasible / (bar.n + 1):.0%}"
                bar.set_postfix(scored=len(self.log), feasible=share, refresh=False)
                bar.update()

            open_trials: deque[_Trial] = deque()
            for _ in range(trials):
                if len(open_trials) == self._window:
                    tell_oldest()
                open_trials.append(self._start(self._sampler.ask()))
            while open_trials:
                tell_oldest()

    def front(self) -> list[Evaluation]:
        """The best of all that was scored, the most accurate first."""
        complete = [e for e in self.log.all() if e.status == "complete"]
        return pareto_front(complete, self.objectives)

    def _start(self, proposal: Proposal) -> _Trial:
        candidate = self.space.candidate(proposal.assignment)
        costs = self._costs(candidate)
        trial = _Trial(proposal, candidate, costs, violations(costs, self.objectives))
        if trial.feasible:
            self._feasible += 1
            if candidate.key not in self.log and candidate.key not in self._under_way:
                future = self._executor.submit(self._evaluate, candidate, costs)
                self._under_way[candidate.key] = trial, future
                self._record()
        return trial

    def _record(self) -> None:
        """Write down whatever has finished, in whatever order."""
        for key, (trial, future) in list(self._under_way.items()):
            if future.done():
                del self._under_way[key]
                try:
                    evaluation = future.result()
                except BrokenExecutor as error:
                    evaluation = Evaluation(
                        trial.candidate, "failed", trial.costs, reason=str(error)
                    )
                self.log.append(evaluation)
                self._count_failures(evaluation)

    def _tell(self, trial: _Trial) -> None:
        key = trial.candidate.key
        if not trial.feasible:
            self._sampler.tell(trial.proposal, key, trial.costs, trial.violations)
            return
        while key not in self.log:
            futures = [future for _, future in self._under_way.values()]
            wait(futures, return_when=FIRST_COMPLETED)
            self._record()
        evaluation = self.log[key]
        if evaluation.status == "failed":
            self._sampler.fail(trial.proposal, key)
            return
        excess = violations(evaluation.metrics, self.objectives)
        self._sampler.tell(trial.proposal, key, evaluation.metrics, excess)

    def _count_failures(self, evaluation: Evaluation) -> None:
        self._failures = self._failures + 1 if evaluation.status == "failed" else 0
        if self._failures >= FAILURES:
            raise RunError(
                f"{FAILURES} candidates in a row could not be scored, the last because of "
                f"{evaluation.reason}"
            )
