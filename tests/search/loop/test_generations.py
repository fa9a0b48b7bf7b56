"""Samplers with generations propose what Optuna's own propose."""

import random
import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseGASampler, NSGAIIISampler, NSGAIISampler
from optuna.trial import TrialState

from vitpareto.search.loop.from_optuna import NSGA2, NSGA3

CHOICES = {f"choice{i}": CategoricalDistribution((0, 1, 2, 3)) for i in range(6)}


@pytest.mark.parametrize(("ours", "optunas"), [(NSGA2, NSGAIISampler), (NSGA3, NSGAIIISampler)])
@pytest.mark.parametrize("at_once", [1, 7])
def test_same_proposals_as_optuna(
    ours: type[BaseGASampler], optunas: type[BaseGASampler], at_once: int
) -> None:
    assert proposals(ours, at_once) == proposals(optunas, at_once)


def proposals(kind: type[BaseGASampler], at_once: int) -> list[dict[str, int]]:
    """Of 300 trials, of which some are under way together and every tenth fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = kind(population_size=10, seed=1)  # pyright: ignore[reportCallIssue]
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    dice, begun = random.Random(0), list[optuna.Trial]()
    for number in range(300):
        begun.append(study.ask(dict(CHOICES)))
        if len(begun) == at_once:
            trial = begun.pop(dice.randrange(at_once))
            if number % 10 == 3:
                study.tell(trial, state=TrialState.FAIL)
            else:
                values = list(trial.params.values())
                study.tell(trial, [sum(values), sum(i * v for i, v in enumerate(values))])
    return [trial.params for trial in study.get_trials(deepcopy=False)]
