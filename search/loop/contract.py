"""SamplerContract: laws that every sampler must keep, for the tests of a plugin as well."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from ...cost_models import workload
from ...spaces import Candidate, Scalar, SearchSpace
from ..pareto.objectives import Objective, violations
from .optuna_sampler import Proposal, Sampler
from .task import Task

SPACE = """
name: contract
in_chans: 1
num_classes: 4
input_size: 16
patch_size: 8
global_pool: avg
stages:
  - depth: {low: 1, high: 2}
    width: [16, 32]
    num_heads: 2
    head_dim: 8
    act_bits: 8
    weight_bits: [32, 8]
    blocks: {mlp_ratio: [1.0, 2.0]}
"""
OBJECTIVES = (Objective("accuracy"), Objective("macs", limit=1e5))
WINDOW = 3  # trials under way at once

Assignment = dict[str, Scalar]


class SamplerContract:
    """Laws of a sampler; a subclass names it, and pytest finds its tests.

    Attributes:
        sampler: its name in `SAMPLERS`.
        trials: proposals of each test, at most.
        repeats: whether it is of Optuna, and so proposes forever and some candidates again.
    """

    sampler: str
    trials = 24
    repeats = False

    def test_proposals_are_choices_of_the_space(self) -> None:
        """Every proposal names choices and values of theirs, and is a candidate of the space."""
        space = SearchSpace.from_text(SPACE)
        values = {choice.name: choice.values for choice in space.parameters}
        for assignment in self.drive(self.open()):
            assert assignment.keys() <= values.keys()
            assert all(value in values[name] for name, value in assignment.items())
            assert space.candidate(assignment) in space

    def test_the_same_seed_and_answers_give_the_same_proposals(self) -> None:
        """Also beside code that draws random numbers."""
        first = self.drive(self.open())
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        assert self.drive(self.open()) == first

    def test_a_replay_goes_on_where_it_was(self) -> None:
        """A resumed sampler that is told the same again goes on with the same proposals."""
        whole = self.drive(self.open())
        resumed = self.open()
        half = self.drive(resumed, self.trials // 2)
        assert half == whole[: len(half)]
        assert self.drive(resumed, self.trials - len(half), len(half)) == whole[len(half) :]

    def test_it_lives_with_failures(self) -> None:
        """It goes on or ends where nothing can be scored."""
        sampler = self.open()
        for _ in range(self.trials):
            proposal = sampler.ask()
            if proposal is None:
                break
            sampler.fail(proposal, "key")

    def test_it_ends(self) -> None:
        """A proposer has nothing left at the latest when all candidates were proposed."""
        size = SearchSpace.from_text(SPACE).size
        trials = self.trials if self.repeats else 10 * size
        proposed = self.drive(self.open(trials), trials)
        assert proposed and (self.repeats or len(proposed) <= 2 * size)

    def open(self, trials: int = 0) -> Sampler:
        """The sampler at the beginning of a search."""
        return Sampler(self.sampler, self.task(trials))

    def task(self, trials: int = 0) -> Task:
        """A space of two dozen candidates; half of them are above the limit."""
        space = SearchSpace.from_text(SPACE)
        return Task(space, OBJECTIVES, _costs, seed=0, trials=trials or self.trials)

    def drive(self, sampler: Sampler, trials: int = 0, told: int = 0) -> list[Assignment]:
        """Proposals made while several trials are under way; some fail, some are infeasible.

        Args:
            sampler: to ask and tell.
            trials: number of proposals, all of them told; that of the class by default.
            told: number of trials told before.
        """
        space, waiting = SearchSpace.from_text(SPACE), deque[Proposal]()
        proposed: list[Assignment] = []

        def tell_oldest() -> None:
            _answer(sampler, waiting.popleft(), space)

        for _ in range(trials or self.trials):
            # A replay waits where the first search had nothing under way.
            if len(waiting) == WINDOW or (told + len(proposed)) % (self.trials // 2) == 0:
                while waiting:
                    tell_oldest()
            proposal = sampler.ask()
            if proposal is None:
                break
            proposed.append(dict(proposal.assignment))
            waiting.append(proposal)
        while waiting:
            tell_oldest()
        return proposed


def _costs(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    return [{"macs": float(workload(candidate).macs)} for candidate in candidates]


def _answer(sampler: Sampler, proposal: Proposal, space: SearchSpace) -> None:
    """Every fifth trial fails; what is above the limit is not scored."""
    candidate = space.candidate(proposal.assignment)
    (metrics,) = _costs([candidate])
    excess: Mapping[str, float] = violations(metrics, OBJECTIVES)
    if proposal.number % 5 == 4:
        sampler.fail(proposal, candidate.key)
        return
    if all(value <= 0 for value in excess.values()):
        metrics["accuracy"] = 1 - 1 / (1 + candidate.architecture.stages[0].width)
    sampler.tell(proposal, candidate.key, metrics, excess)
