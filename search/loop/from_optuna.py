"""Samplers of Optuna, as they are used here."""

from __future__ import annotations

import optuna
from optuna.samplers import BaseGASampler, BaseSampler, NSGAIIISampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState

from .task import Task


def nsga2(task: Task) -> BaseSampler:
    """Non-dominated sorting and crowding (Deb et al. 2002)."""
    return NSGA2(population_size=_population(task), seed=task.seed)


def nsga3(task: Task) -> BaseSampler:
    """Non-dominated sorting and reference points (Deb and Jain 2014)."""
    return NSGA3(population_size=_population(task), seed=task.seed)


def tpe(task: Task) -> BaseSampler:
    """Tree-structured Parzen estimator of all choices together (Bergstra et al. 2011)."""
    return optuna.samplers.TPESampler(seed=task.seed, multivariate=True)


def gp(task: Task) -> BaseSampler:
    """Gaussian process and expected hypervolume."""
    return optuna.samplers.GPSampler(seed=task.seed)


def random(task: Task) -> BaseSampler:
    """Every choice drawn alone."""
    return optuna.samplers.RandomSampler(seed=task.seed)


def _population(task: Task) -> int:
    return min(50, max(10, task.trials // 10))


class _Generations(BaseGASampler):
    """The same generations and parents as Optuna's, which goes through all trials at every ask.

    That was most of the overhead of a search of 10,000 trials. Trials enter generations in the
    order of their numbers, except where drivers ask at the same moment or queue a trial again,
    so only the last two generations are counted. The parents of a generation stay;
    Optuna gives them in the order of selection at first, and of their numbers from then on.
    """

    _parents: tuple[int, list[FrozenTrial]] = (0, [])

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        key = self._get_generation_key()
        if key in trial.system_attrs:
            return trial.system_attrs[key]
        newest, members = 0, 0
        trials = study._get_trials(deepcopy=False, use_cache=True)  # pyright: ignore[reportPrivateUsage]
        for told in reversed(trials):
            generation = told.system_attrs.get(key)
            if generation is None or told.state != TrialState.COMPLETE:
                continue
            if generation < newest - 1:
                break
            if generation > newest:
                newest, members = generation, 0
            members += generation == newest
        assert self.population_size is not None
        generation = newest + (members >= self.population_size)
        study._storage.set_trial_system_attr(trial._trial_id, key, generation)  # pyright: ignore[reportPrivateUsage]
        return generation

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        if self._parents[0] == generation:
            return self._parents[1]
        parents = super().get_parent_population(study, generation)
        self._parents = generation, sorted(parents, key=lambda trial: trial.number)
        return parents


class NSGA2(_Generations, NSGAIISampler):
    """`optuna.samplers.NSGAIISampler`."""


class NSGA3(_Generations, NSGAIIISampler):
    """`optuna.samplers.NSGAIIISampler`."""
