"""Genetic: NSGA-II over a space, for objectives that cost next to nothing to compute."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...spaces import Candidate, Choice, Scalar, SearchSpace
from ..pareto.sorting import survival

Array = NDArray[np.float64]

MUTATION = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Individual:
    """A candidate and its active choices; equal to itself alone, which is quick to look up."""

    candidate: Candidate
    assignment: Mapping[str, Scalar]

    @classmethod
    def of(cls, space: SearchSpace, assignment: Mapping[str, Scalar]) -> Individual:
        """The nearest candidate to an assignment."""
        return cls(*space.resolve(assignment))


def evolve(
    space: SearchSpace,
    start: Sequence[Individual],
    losses: Callable[[Sequence[Individual]], tuple[Array, Array]],
    rng: random.Random,
    population: int,
    generations: int,
    free: Collection[str],
) -> list[Individual]:
    """Search a space and return every individual met, the last population first.

    NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002) with uniform
    crossover, constraint domination by the sum of violations, and no candidate twice.

    Args:
        space: to search.
        start: the first population.
        losses: individuals -> what is minimized (N, M) and the excess over limits (N,).
        rng: of crossover and mutation.
        population: individuals of a generation.
        generations: number of them.
        free: names of the choices that vary; the others stay as the mother has them.
    """
    choices = [choice for choice in space.parameters if choice.name in free]
    met = {i.candidate: i for i in start}
    alive = list(met.values())
    values, excess = losses(alive)
    for _ in range(generations):
        order = survival(values, excess)[:population]
        alive, values, excess = [alive[i] for i in order], values[order], excess[order]
        born: list[Individual] = []
        for _ in range(population):
            # The population is in order of fitness, so the earlier of two wins.
            mother, father = (
                alive[min(rng.randrange(len(alive)), rng.randrange(len(alive)))] for _ in range(2)
            )
            child = Individual.of(space, cross(choices, mother, father, rng))
            if met.setdefault(child.candidate, child) is child:
                born.append(child)
        if born:
            new_values, new_excess = losses(born)
            alive, values = alive + born, np.vstack([values, new_values])
            excess = np.concatenate([excess, new_excess])
    last = [alive[i] for i in survival(values, excess)[:population]]
    return list(dict.fromkeys(last + list(met.values())))


def cross(
    choices: Sequence[Choice], mother: Individual, father: Individual, rng: random.Random
) -> dict[str, Scalar]:
    """The mother's assignment with each of some choices from either parent.

    One in twenty of them and at least one are random instead.
    """
    child = dict(mother.assignment)
    changed = rng.randrange(len(choices))
    random = rng.random
    for number, choice in enumerate(choices):
        name = choice.name
        one, other = mother.assignment.get(name), father.assignment.get(name)
        value = one if other is None or (one is not None and random() < 0.5) else other
        if number == changed or value is None or random() < MUTATION:
            value = choice.values[int(random() * len(choice.values))]
        child[name] = value
    return child
