"""Sandwich: the candidates of a training step, and their gradients in the shared weights."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spaces import Candidate, SearchSpace
from ..spaces.errors import RunError
from ..spaces.supernet import Supernet
from .answer import ask
from .config import SupernetConfig
from .losses import Answer, Lesson, soft_cross_entropy, without_conflict
from .teacher import Lessons

log = logging.getLogger("vitpareto")


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
    """The candidates of a step: largest, smallest, random ones.

    With a curriculum the axes of the space open one after the other; those that are still closed
    have their largest value. A pretrained network is so taken apart a little at a time (Cai et
    al., Once-for-all, arXiv:1908.09791).

    Args:
        space: from which they are drawn.
        config: random candidates, and the share of the steps after which all axes are open.
        steps: of the whole training.
        seed: of the random ones.
    """

    def __init__(self, space: SearchSpace, config: SupernetConfig, steps: int, seed: int) -> None:
        self._space, self._config, self._steps, self._seed = space, config, steps, seed
        self._largest, self._smallest = space.largest(), space.smallest()
        self._axes = list(dict.fromkeys(c.name.rpartition(".")[2] for c in space.parameters))

    def __call__(self, step: int) -> list[Candidate]:
        """All candidates of a step, the largest first."""
        rng = random.Random(f"{self._seed} {step}")
        drawn = [self._space.draw(rng) for _ in range(self._config.random)]
        others = [self._opened(candidate, step) for candidate in (self._smallest, *drawn)]
        return [self._largest, *others]

    def _opened(self, candidate: Candidate, step: int) -> Candidate:
        share = step / self._steps
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
        workers: who shares the work.
    """

    def __init__(
        self, supernet: Supernet, lessons: Lessons, config: SupernetConfig, workers: Workers
    ) -> None:
        self._supernet, self._lessons, self._config = supernet, lessons, config
        self._workers, self._pieces = workers, 1

    def step(self, candidates: Sequence[Candidate], lesson: Lesson) -> Tensor:
        """Fill the gradients; the losses on labels of each candidate.

        When memory does not suffice, this and all later batches are worked off in two halves,
        whose gradients add up to the same.

        Raises:
            RunError: it does not suffice for a half either.
        """
        while True:
            try:
                return self._attempt(candidates, lesson)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self._pieces > 1:
                    raise RunError(
                        f"supernet: out of memory at half a batch of {len(lesson.labels)}: "
                        "choose a smaller supernet.batch_size"
                    ) from error
            self._pieces = 2
            log.warning("supernet: out of memory; from here on each batch is worked off in halves")
            for parameter in self._supernet.parameters():
                parameter.grad = None

    def _attempt(self, candidates: Sequence[Candidate], lesson: Lesson) -> Tensor:
        first, *others = candidates
        losses = torch.zeros(len(candidates))
        pieces = list(self._share(lesson))
        targets: list[Tensor] = []
        for weight, piece in pieces:
            answer = ask(self._supernet, first, piece.images)
            (weight * self._lessons.loss(answer, piece)).backward()
            targets.append(answer.mean.detach())
            losses[0] += weight * _on_labels(answer, piece)
        kept = self._taken() if self._config.project_conflicts else []
        for i, candidate in enumerate(others, 1):
            for (weight, piece), target in zip(pieces, targets, strict=True):
                answer = ask(self._supernet, candidate, piece.images)
                (weight * soft_cross_entropy(answer.mean, target.softmax(-1))).backward()
                losses[i] += weight * _on_labels(answer, piece)
        parameters = list(self._supernet.parameters())
        self._workers.add([losses, *(p.grad for p in parameters if p.grad is not None)])
        if self._config.project_conflicts:
            self._workers.add([g for g in kept if g is not None])
            combined = without_conflict(kept, [p.grad for p in parameters])
            for parameter, gradient in zip(parameters, combined, strict=True):
                parameter.grad = gradient
        return losses

    def _share(self, lesson: Lesson) -> Iterator[tuple[float, Lesson]]:
        """This worker's part of a batch in pieces, each with its share of the whole."""
        total = len(lesson.labels)
        for index in torch.arange(self._workers.rank, total, self._workers.count).chunk(
            self._pieces
        ):
            yield len(index) / total, lesson[index]

    def _taken(self) -> list[Tensor | None]:
        """The gradients so far, taken away from the parameters."""
        found: list[Tensor | None] = []
        for parameter in self._supernet.parameters():
            found.append(parameter.grad)
            parameter.grad = None
        return found


def _on_labels(answer: Answer, lesson: Lesson) -> Tensor:
    return F.cross_entropy(answer.mean.detach(), lesson.labels).cpu()


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "DefaultCPUAllocator" in str(error)
