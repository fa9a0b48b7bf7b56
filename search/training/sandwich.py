"""Sandwich: the candidates of a training step, and their gradients in the shared weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...spaces import Candidate, SearchSpace
from ...spaces.supernet import Supernet
from ..config import SupernetConfig
from .forward import ask
from .loss_curves import LARGEST, SMALLEST
from .losses import Answer, Gradients, Lesson, soft_cross_entropy, without_conflict
from .parts import Parts
from .teacher import Lessons

WATCHED = 10  # steps between two looks at the largest and the smallest


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that share a training, each with its part of every batch.

    Attributes:
        rank: of this process.
        count: of processes.
        add: replaces tensors by their sums over all processes, in place.
    """

    rank: int = 0
    count: int = 1
    add: Callable[[Sequence[Tensor]], None] = lambda tensors: None


ALONE = Workers()


class Draw:
    """The candidates of a step.

    By the sandwich rule these are the largest, the smallest and random ones. Uniform sampling
    draws all at random, so that each kind of block is trained equally often; only now and then
    are the largest and the smallest among them, to be watched.

    The largest may learn alone first: half of the 940 steps of `cifar` spent so took it from 37
    to 47% (alone throughout: 49%). With a curriculum the axes of the space open one after the
    other, and those still closed have their largest value, so that networks shrink a little at a
    time (Cai et al., Once-for-all, arXiv:1908.09791).

    Args:
        space: from which they are drawn.
        config: how, how many, and the shares of the steps before all axes are open.
        steps: of the whole training.
        seed: of the random ones.

    Attributes:
        steps: of the whole training, as it is now.
    """

    def __init__(self, space: SearchSpace, config: SupernetConfig, steps: int, seed: int) -> None:
        self._space, self._config, self.steps, self._seed = space, config, steps, seed
        self._bounds = [(LARGEST, space.largest()), (SMALLEST, space.smallest())]
        self._axes = list(dict.fromkeys(c.name.rpartition(".")[2] for c in space.parameters))

    def __call__(self, step: int) -> list[tuple[str, Candidate]]:
        """All candidates of a step with their names in curves, the largest first."""
        if step < self._config.alone * self.steps:
            return self._bounds[:1]
        rng = random.Random(f"{self._seed} {step}")
        drawn = [("random", self._space.draw(rng)) for _ in range(self._config.random)]
        if self._config.sampling == "sandwich":
            drawn = [*self._bounds, *drawn]
        elif step % WATCHED == 0:
            drawn = [*self._bounds, *drawn[2:]]
        return [(name, self._opened(candidate, step)) for name, candidate in drawn]

    def _opened(self, candidate: Candidate, step: int) -> Candidate:
        alone = self._config.alone * self.steps
        share = (step - alone) / (self.steps - alone)
        if share >= self._config.curriculum:
            return candidate
        opened = self._axes[: 1 + int(len(self._axes) * share / self._config.curriculum)]
        values = self._space.assignment(candidate)
        return self._space.candidate(
            {name: value for name, value in values.items() if name.rpartition(".")[2] in opened}
        )


class Sandwich:
    """Gradients of one step in the shared weights.

    Args:
        supernet: that gets the gradients.
        lessons: whose loss the largest network learns by.
        config: whether conflicts are projected.
        workers: processes that share the work.
    """

    def __init__(
        self, supernet: Supernet, lessons: Lessons, config: SupernetConfig, workers: Workers
    ) -> None:
        self._supernet, self._lessons, self._config = supernet, lessons, config
        self._workers, self._parts = workers, Parts("supernet")

    def step(self, candidates: Sequence[Candidate], lesson: Lesson) -> Tensor:
        """Fill the gradients and return the loss on labels of each candidate.

        When memory does not suffice, this and all later batches are worked off in parts, whose
        gradients add up to the same.

        Raises:
            RunError: it does not suffice for a single image.
        """

        def forget() -> None:
            for parameter in self._supernet.parameters():
                parameter.grad = None

        images = -(-len(lesson.labels) // self._workers.count)
        return self._parts(images, lambda: self._attempt(candidates, lesson), forget)

    def _attempt(self, candidates: Sequence[Candidate], lesson: Lesson) -> Tensor:
        config = self._config
        alone = config.sampling == "uniform"  # nobody learns from anybody
        pieces = list(self._share(lesson))
        losses = torch.zeros(len(candidates), device=pieces[0][1].labels.device)
        targets: list[Tensor] = []
        kept: Gradients = []
        for i, candidate in enumerate(candidates):
            for j, (weight, piece) in enumerate(pieces):
                answer = ask(self._supernet, candidate, piece.images)
                if i == 0 or alone:
                    loss = self._lessons.loss(answer, piece)
                    targets.append(answer.mean.detach().softmax(-1))
                else:
                    loss = soft_cross_entropy(answer.mean, targets[j], piece.weights)
                (weight * loss).backward()
                losses[i] += weight * _on_labels(answer, piece)
            if i == 0 and config.project_conflicts:
                kept = self._taken()
        parameters = list(self._supernet.parameters())
        self._workers.add([losses, *(p.grad for p in parameters if p.grad is not None)])
        if kept:
            self._workers.add([g for g in kept if g is not None])
            combined = without_conflict(kept, [p.grad for p in parameters])
            for parameter, gradient in zip(parameters, combined, strict=True):
                parameter.grad = gradient
        return losses.cpu()

    def _share(self, lesson: Lesson) -> Iterator[tuple[float, Lesson]]:
        """This worker's part of a batch in pieces, each with its share of the whole."""
        total, device = len(lesson.labels), next(self._supernet.parameters()).device
        for index in torch.arange(self._workers.rank, total, self._workers.count).chunk(
            self._parts.count
        ):
            yield len(index) / total, lesson[index].to(device)

    def _taken(self) -> Gradients:
        """The gradients so far, taken away from the parameters."""
        gradients: Gradients = []
        for parameter in self._supernet.parameters():
            gradients.append(parameter.grad)
            parameter.grad = None
        return gradients


def _on_labels(answer: Answer, lesson: Lesson) -> Tensor:
    return F.cross_entropy(answer.mean.detach(), lesson.labels)
