"""NSGA-II and NSGA-III of Optuna, asked in the same time however many trials there are."""

from __future__ import annotations

import optuna
from optuna.samplers import BaseGASampler, NSGAIIISampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState


class _Generations(BaseGASampler):
    """The same generations as Optuna's, which counts all trials at every ask.

    That was half of the overhead of a search of 10,000 trials. Trials enter generations in the
    order of their numbers, but for drivers that ask at the same moment: nothing older than the
    last generation but one needs to be counted.
    """

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        key = self._get_generation_key()
        if key in trial.system_attrs:
            return trial.system_attrs[key]
        newest, members = 0, 0
        for told in reversed(study.get_trials(deepcopy=False)):
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


class NSGA2(_Generations, NSGAIISampler):
    """`optuna.samplers.NSGAIISampler`."""


class NSGA3(_Generations, NSGAIIISampler):
    """`optuna.samplers.NSGAIIISampler`."""
