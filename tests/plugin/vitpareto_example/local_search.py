"""Pareto local search (Paquete, Chiarandini and Stuetzle 2004): neighbors of the front in turn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vitpareto.search.loop.task import History, Task, Told
from vitpareto.search.pareto.objectives import pareto_front
from vitpareto.spaces import Scalar

Assignment = Mapping[str, Scalar]


@dataclass(frozen=True)
class Scored:
    """An assignment with all its metrics."""

    assignment: Assignment
    metrics: Mapping[str, float]


class ParetoLocalSearch:
    """Proposes what differs in one choice from a member of the front."""

    def __init__(self, task: Task) -> None:
        self.task, self.rng = task, random.Random(task.seed)
        self.seen: set[str] = set()
        ends = (task.space.smallest(), task.space.largest())
        self.waiting: list[Assignment] = [task.space.assignment(end) for end in ends]

    def propose(self, history: History) -> Assignment | None:
        """An unseen neighbor of the front, or else a random candidate."""
        if not self.waiting:
            self.waiting = [
                neighbor
                for scored in self.front(history())
                for neighbor in self.neighbors(scored.assignment)
            ]
            self.rng.shuffle(self.waiting)
            self.waiting += [self.task.space.assignment(c) for c in self.drawn()]
        while self.waiting:
            assignment = self.waiting.pop(0)
            key = self.task.space.candidate(assignment).key
            if key not in self.seen:
                self.seen.add(key)
                return assignment
        return None

    def front(self, history: Sequence[Told]) -> list[Scored]:
        """The best of what was scored."""
        told = [one for one in history if one.scores]
        costs = self.task.price([self.task.space.candidate(one.assignment) for one in told])
        scored = [
            Scored(one.assignment, {**cost, **one.scores})
            for one, cost in zip(told, costs, strict=True)
        ]
        return pareto_front(scored, self.task.objectives)

    def neighbors(self, assignment: Assignment) -> Iterator[Assignment]:
        """Everything that differs in one choice."""
        for choice in self.task.space.parameters:
            for value in choice.values:
                if value != assignment.get(choice.name):
                    yield {**assignment, choice.name: value}

    def drawn(self, count: int = 20) -> list:
        """Some random candidates, so that a search does not stay where it began."""
        return [self.task.space.draw(self.rng) for _ in range(count)]
