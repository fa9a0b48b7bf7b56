"""Sampler: Optuna proposes assignments and learns from what is told; nothing else knows Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

from ..spaces import Choice
from ..spaces.errors import UnknownNameError
from ..spaces.parameter import Scalar
from .objectives import Objective

optuna.logging.set_verbosity(optuna.logging.ERROR)


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

    Args:
        name: nsga2, nsga3, tpe, gp or random.
        parameters: the choices of the space.
        objectives: what is told; those that are traded become Optuna's objectives.
        seed: of the proposals.
        trials: planned; a genetic population is a tenth of them, 10 to 50.
        journal: file to write, replaced if it exists; `None` keeps the study in memory.

    Raises:
        UnknownNameError: no such sampler.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[Choice],
        objectives: Sequence[Objective],
        seed: int,
        trials: int,
        journal: Path | None = None,
    ) -> None:
        if name not in SAMPLERS:
            raise UnknownNameError("sampler", name, SAMPLERS)
        self._objectives = [o for o in objectives if o.traded]
        self._choices = {
            p.name: optuna.distributions.CategoricalDistribution(p.values) for p in parameters
        }
        self._study = optuna.create_study(
            study_name="vitpareto",
            storage=_journal(journal) if journal else None,
            sampler=SAMPLERS[name](seed, min(50, max(10, trials // 10))),
            directions=["maximize" if o.maximise else "minimize" for o in self._objectives],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names([o.name for o in self._objectives])
        self._open: dict[int, optuna.Trial] = {}

    def ask(self) -> Proposal:
        """The next assignment to try."""
        trial = self._study.ask(dict(self._choices))
        self._open[trial.number] = trial
        return Proposal(trial.number, trial.params)

    def tell(
        self,
        proposal: Proposal,
        key: str,
        metrics: Mapping[str, float],
        violations: Mapping[str, float],
    ) -> None:
        """Report what a proposal came to.

        Args:
            proposal: from `ask`.
            key: of the candidate that it became.
            metrics: values by name; accuracy may be missing where it was not worth scoring.
            violations: relative excess over each limit, at most 0 where it is kept. Optuna adds
                them up, which only works for ratios.
        """
        trial = self._open.pop(proposal.number)
        trial.set_user_attr("key", key)
        for name, value in violations.items():
            trial.set_constraint(name, value)
        self._study.tell(trial, [metrics.get(o.name, 0.0) for o in self._objectives])

    def fail(self, proposal: Proposal, key: str) -> None:
        """Report that a proposal could not be scored."""
        trial = self._open.pop(proposal.number)
        trial.set_user_attr("key", key)
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "nsga2": lambda seed, n: optuna.samplers.NSGAIISampler(population_size=n, seed=seed),
    "nsga3": lambda seed, n: optuna.samplers.NSGAIIISampler(population_size=n, seed=seed),
    "tpe": lambda seed, n: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda seed, n: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed, n: optuna.samplers.RandomSampler(seed=seed),
}


def _journal(path: Path) -> JournalStorage:
    # The run folder has one driver, so a lock that is still there belongs to a dead one.
    for old in (path, path.with_name(f"{path.name}.lock")):
        old.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
