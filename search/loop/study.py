"""Study: the loop. Costs come first, scores where they are worth it, and nothing is asked twice."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from ...spaces import Candidate
from ...spaces.errors import RunError
from ..config import RunConfig
from ..console import progress, stop_request
from ..pareto.hypervolume import Archive, Box
from ..pareto.objectives import goal, pareto_front, violations
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import EvaluationLog
from ..scoring.successive_halving import BRACKET
from .optuna_sampler import Proposal, Sampler
from .task import Task

FAILURES = 10  # in a row; then the fault is not the candidates'
STAGNANT = 1e-3  # relative growth of the hypervolume that counts as none

Costs = Mapping[str, float]
Ending = Literal["trials", "scored", "time", "stagnation", "exhausted"]


class Scoring(Protocol):
    """Scores candidates: `Scores`, or `Halving` over several of them."""

    @property
    def log(self) -> EvaluationLog:
        """Evaluations on all images."""
        ...

    def submit(self, candidate: Candidate, costs: Costs) -> None:
        """Start scoring."""
        ...

    def result(self, key: str) -> Evaluation:
        """Wait for the evaluation of a candidate that was submitted."""
        ...

    def in_full(self, key: str) -> bool:
        """Whether that evaluation is on all images."""
        ...


@dataclass(frozen=True, slots=True)
class Until:
    """Conditions that end a search; 0 turns one off.

    Attributes:
        trials: proposals, those of an interrupted run included.
        scored: different candidates that were scored.
        seconds: of this process.
        patience: trials without growth of the hypervolume.
    """

    trials: int
    scored: int = 0
    seconds: float = 0.0
    patience: int = 0


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
        task: space, objectives, costs and length of the search.
        sampler: proposes candidates.
        scoring: scores candidates whose costs are known.
        window: trials under way at once.

    Attributes:
        archive: the front so far and its hypervolume.
        told: trials that have ended.
    """

    def __init__(self, task: Task, sampler: Sampler, scoring: Scoring, window: int = 1) -> None:
        self.task, self.scoring, self.objectives = task, scoring, task.objectives
        self.archive = Archive(Box.of_space(task.space, task.objectives, task.price))
        self.told = 0
        self._sampler, self._window = sampler, window
        self._open: deque[_Trial] = deque()
        self._feasible = 0
        self._submitted: set[str] = set()
        self._best: dict[str, float] = {}
        self._failed: dict[str, str] = {}  # key -> reason, of the failures in a row
        self._grown = (0, 0.0)  # trials told, and hypervolume, when it last grew noticeably

    def run(self, until: Until) -> Ending:
        """Search until a condition of `until` holds, and return which.

        Raises:
            KeyboardInterrupt: after Ctrl-C or SIGTERM, once what runs is finished and told.
            RunError: too many candidates failed one after the other, or a file cannot be written.
        """
        start = time.monotonic()
        ending: Ending | None = None
        goal, unit = (until.scored, "candidate") if until.scored else (until.trials, "trial")
        with stop_request() as interrupt, progress(goal, "search", unit) as bar:

            def tell_oldest() -> None:
                self._tell(self._open.popleft())
                bar.set_postfix_str(self.summary(), refresh=False)
                bar.update((self.scored if until.scored else self.told) - bar.n)

            while ending is None and not interrupt.is_set():
                if len(self._open) == self._window:
                    tell_oldest()
                if until.seconds and time.monotonic() - start >= until.seconds:
                    ending = "time"
                else:
                    ending = self._reached(until) or self._ask()
            while self._open:
                tell_oldest()
        if ending is None:
            raise KeyboardInterrupt
        return ending

    @property
    def scored(self) -> int:
        """Number of different candidates that were sent to be scored."""
        return len(self._submitted)

    def front(self) -> list[Evaluation]:
        """The best of all that was scored in full, the most accurate first."""
        complete = [e for e in self.scoring.log.all() if e.status == "complete"]
        return pareto_front(complete, self.objectives)

    def summary(self) -> str:
        """Progress of the search, in a few words."""
        words = [
            f"scored {self.scored}",
            f"feasible {self._feasible / max(1, self.told):.0%}",
            f"hypervolume {self.archive.volume:.4f}",
            *(f"best {name} {value:.4g}" for name, value in self._best.items()),
        ]
        limits = [f"{o.name} {o.limit:g}" for o in self.objectives if o.limit is not None]
        return ", ".join(words) + (f" within {', '.join(limits)}" if limits else "")

    def _reached(self, until: Until) -> Ending | None:
        """The condition that holds by now, if any; the same when a run is resumed."""
        if self.told + len(self._open) >= until.trials:
            return "trials"
        if until.scored and self.scored >= until.scored:
            return "scored"
        if until.patience and self.told - self._grown[0] >= until.patience:
            return "stagnation"
        return None

    def _ask(self) -> Ending | None:
        """Start one more trial, if there is one.

        Raises:
            RunError: others that share the study have begun all trials before this search any.
        """
        proposal = self._sampler.ask()
        if proposal is None:
            if not self._sampler.all_begun():
                return "exhausted"
            if not (self._open or self.told or len(self.scoring.log)):
                raise RunError(
                    "search.storage: others that share it have begun all trials, and left none for "
                    f"this search, got search.trials {self.task.trials}: raise it, or name a "
                    "storage of its own"
                )
            return "trials"
        candidate = self.task.space.candidate(proposal.assignment)
        (costs,) = self.task.price([candidate])
        trial = _Trial(proposal, candidate, costs, violations(costs, self.objectives))
        self._open.append(trial)
        if trial.feasible:
            self.scoring.submit(candidate, costs)
            self._submitted.add(candidate.key)
        return None

    def _tell(self, trial: _Trial) -> None:
        key = trial.candidate.key
        self.told += 1
        if not trial.feasible:
            self._sampler.tell(trial.proposal, key, trial.costs, trial.violations)
            return
        self._feasible += 1
        evaluation = self.scoring.result(key)
        if evaluation.status == "failed":
            self._sampler.fail(trial.proposal, key)
            self._count_failure(evaluation)
            return
        self._failed.clear()
        excess = violations(evaluation.metrics, self.objectives)
        self._sampler.tell(trial.proposal, key, evaluation.metrics, excess)
        if self.scoring.in_full(key) and all(value <= 0 for value in excess.values()):
            self._note(evaluation.metrics)

    def _note(self, metrics: Mapping[str, float]) -> None:
        """Follow the front and the best accuracy within all limits."""
        self.archive.add([o.loss(metrics[o.name]) for o in self.objectives if o.traded])
        if self.archive.volume > self._grown[1] * (1 + STAGNANT):
            self._grown = self.told, self.archive.volume
        if (name := goal(self.objectives)) in metrics:
            self._best[name] = max(metrics[name], self._best.get(name, metrics[name]))

    def _count_failure(self, evaluation: Evaluation) -> None:
        self._failed[evaluation.key] = evaluation.reason
        if len(self._failed) == FAILURES:
            times = Counter(self._failed.values()).most_common()
            raise RunError(
                f"{FAILURES} candidates in a row could not be scored: "
                + "; ".join(f"{n} times {reason}" for reason, n in times)
            )


def window(config: RunConfig) -> int:
    """Trials under way at once: a bracket, or as many as `ahead`."""
    return max(ahead(config), BRACKET if config.search.rungs else 1)


def ahead(config: RunConfig) -> int:
    """Calls under way at once, so that no worker waits for the next one."""
    executor = config.executor
    alone = executor.kind == "local" and executor.workers == 1
    return 1 if alone else 2 * executor.workers
