"""Parts: batches whose activations do not fit into memory are worked off piece by piece.

The gradients of the pieces add up to that of the batch, so that the recipe stays the same. Only
the statistics of batch norm, and losses that compare images with each other, are of a piece.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ...spaces.errors import RunError
from .losses import Lesson
from .optimizer import Optimizer

T = TypeVar("T")

log = logging.getLogger("vitpareto")


class Parts:
    """Number of parts of each batch of a training; it doubles whenever memory does not suffice.

    Args:
        what: is trained, for messages.

    Attributes:
        count: of the parts, as it is now.
    """

    def __init__(self, what: str) -> None:
        self._what, self.count = what, 1

    def __call__(self, images: int, attempt: Callable[[], T], forget: Callable[[], object]) -> T:
        """Work off a batch, in as many parts as it takes from here on.

        Args:
            images: of the batch.
            attempt: works it off in `count` parts.
            forget: what a failed attempt left behind.

        Raises:
            RunError: memory does not suffice for a single image.
        """
        while True:
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self.count >= images:
                    raise RunError(
                        f"{self._what}: out of memory at a single image: choose a space of smaller "
                        "networks, larger patches or smaller images"
                    ) from error
            forget()
            self.count = min(2 * self.count, images)
            log.warning(
                "%s: out of memory; from here on each batch of %d is worked off in %d parts",
                self._what,
                images,
                self.count,
            )

    def backward(
        self, images: int, loss: Callable[[Tensor], Tensor], optimizer: Optimizer
    ) -> Tensor:
        """Fill the gradients of a batch; its mean loss.

        Args:
            images: of the batch.
            loss: mean loss of some of them, by their numbers in the batch.
            optimizer: of the parameters.

        Raises:
            RunError: memory does not suffice for a single image.
        """

        def attempt() -> Tensor:
            losses: list[Tensor] = []
            for part in torch.arange(images).chunk(self.count):
                weighted = loss(part) * (len(part) / images)
                weighted.backward()
                losses.append(weighted.detach())
            return torch.stack(losses).sum()

        return self(images, attempt, optimizer.clear)

    def learn(
        self, lesson: Lesson, loss: Callable[[Lesson], Tensor], optimizer: Optimizer
    ) -> Tensor:
        """Likewise, of a lesson."""
        whole = len(lesson.labels)
        return self.backward(
            whole, lambda part: loss(lesson if len(part) == whole else lesson[part]), optimizer
        )


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "DefaultCPUAllocator" in str(error)
