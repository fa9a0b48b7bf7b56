"""Baselines that a search has to beat, each a sampler like any other.

All but random and uniform scaling are the surrogate search with some choices held, so that they
compare which choices are searched together, and not how well each is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...spaces import Choice, Scalar
from ...spaces.schema import CAPACITIES, POLICY, plain
from ..pareto.objectives import pareto_front
from .genetic import Individual
from .surrogate import Surrogate
from .task import History, Proposer, Task, Told
from .uniform_scaling import field, scalings

GROWN = {"depth", "width", "num_heads", "mlp_ratio", "input_size"}
TOKENS = {"token_keep", "token_keep_at", "token_reduction", "token_routing", *CAPACITIES}
SHARES = (0.5, 0.25, 0.25)  # of a sequential search's trials


class UniformScaling:
    """Depth, width, heads and MLPs grown together in equal steps; the rest as in the largest."""

    def __init__(self, task: Task) -> None:
        grown = scalings(task.space, task.trials, lambda choice: field(choice) in GROWN)
        by_key = {task.space.candidate(assignment).key: assignment for assignment in grown}
        self._left = list(by_key.values())

    def propose(self, history: History) -> Mapping[str, Scalar] | None:
        """The next larger network."""
        return self._left.pop(0) if self._left else None


class Sequential:
    """First the architecture, then the tokens that it drops, then its compression.

    Each step varies its own choices, starting from the front of the steps before it.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._step, self._left = task, -1, 0
        self._current: Surrogate | None = None
        steps = {_step(choice) for choice in task.space.parameters} or {0}
        total = sum(SHARES[step] for step in steps)
        self._plan = [(step, round(task.trials * SHARES[step] / total)) for step in sorted(steps)]

    def propose(self, history: History) -> Mapping[str, Scalar] | None:
        """Next proposal of this step or of the one after it; the last step gets all trials left."""
        while True:
            if self._current and (self._left or not self._plan):
                self._left -= 1
                if (proposal := self._current.propose(history)) is not None:
                    return proposal
            if not self._plan:
                return None
            step, self._left = self._plan.pop(0)
            bases = self._front(history()) if self._current else []
            self._current = _held(self._task, _of_step(step), bases)

    def _front(self, history: Sequence[Told]) -> list[Individual]:
        scored = [told for told in history if told.scores]
        individuals = [Individual.of(self._task.space, told.assignment) for told in scored]
        costs = self._task.price([i.candidate for i in individuals])
        known = [
            Known(i, {**cost, **told.scores})
            for i, cost, told in zip(individuals, costs, scored, strict=True)
        ]
        return [k.individual for k in pareto_front(known, self._task.objectives)]


@dataclass(frozen=True, slots=True)
class Known:
    """An individual with its metrics."""

    individual: Individual
    metrics: Mapping[str, float]


def _step(choice: Choice) -> int:
    name = field(choice)
    return 1 if name in TOKENS else 2 if plain(name) in POLICY else 0


def _of_step(step: int) -> Callable[[Choice], bool]:
    return lambda choice: _step(choice) == step


def _held(
    task: Task, free: Callable[[Choice], bool], bases: Sequence[Individual] = ()
) -> Surrogate:
    return Surrogate(task.space, task.objectives, task.price, task.seed, free, bases)


def _only(*names: str) -> Callable[[Task], Proposer]:
    """Varies the choices of these fields of the largest network."""
    return lambda task: _held(task, lambda choice: plain(field(choice)) in names)


def surrogate(task: Task) -> Surrogate:
    """Varies everything."""
    return _held(task, lambda _: True)


patch_size = _only("patch_size")
prune = _only("prune_ratio", "num_heads", "mlp_ratio")
int8 = _only("weight_bits", "act_bits")
