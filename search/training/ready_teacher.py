"""A ready teacher, looked at before anything else: is it right about these images and classes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...spaces.errors import RunError
from ..data.dataset import Data, Split, mixed
from .accuracy import accuracy, wilson
from .optimizer import torch_device
from .teacher import logits_on

SHOWN = 1000  # images at most
NAMED = 3  # outputs in a message
ENOUGH = 100  # images that tell a fair teacher from guesses; with fewer, train images join them


@dataclass(frozen=True, slots=True)
class Judgment:
    """How far the answers of a teacher agree with labels.

    Attributes:
        images: number of them.
        accuracy: on them.
        low: lower end of its 95% interval.
        high: upper end.
        chance: accuracy of guesses that name each class as often as the teacher does.
        majority: accuracy of always naming the most frequent class.
        assigned: best class of each output (K,).
        assigned_low: lower end of the accuracy that it would have, found on other images.
    """

    images: int
    accuracy: float
    low: float
    high: float
    chance: float
    majority: float
    assigned: Sequence[int]
    assigned_low: float

    def __str__(self) -> str:
        return (
            f"is right in {self.accuracy:.1%} of {self.images:,} images, by chance it "
            f"would be in {self.chance:.1%}"
        )

    @property
    def by_chance(self) -> bool:
        """Whether it may know nothing."""
        return self.low <= self.chance

    @property
    def in_another_order(self) -> bool:
        """Whether its outputs fit the classes much better in another order."""
        return self.assigned_low > max(self.high, self.majority)

    def require(self, what: str, class_names: Sequence[str], key: str, pixels: str) -> None:
        """Check that the network knows the classes, and in their order.

        Args:
            what: it is, for messages.
            class_names: in the order of the labels.
            key: of the configuration that takes another order.
            pixels: another reason for which it may know nothing.

        Raises:
            RunError: it does not.
        """
        if self.in_another_order:
            raise RunError(
                f"{what}: {self}: its classes seem to be in another order: "
                f"{_order(self.assigned, class_names)}: give the checkpoint's order as {key}"
            )
        if self.by_chance:
            raise RunError(
                f"{what}: {self}: a checkpoint of other classes, {pixels}, or wrong labels"
            )


def check_teacher(teacher: nn.Module, data: Data) -> Judgment:
    """Compare the answers of a ready teacher with labels of validation images.

    Raises:
        RunError: it is no better than chance, or knows the classes in another order.
    """
    found = judge_answers(teacher, data, "teacher")
    found.require(
        "teacher",
        data.class_names,
        "data.classes",
        "images of another kind (mean and std are those of teacher.model)",
    )
    return found


def judge_answers(network: nn.Module, data: Data, what: str) -> Judgment:
    """Judge the answers of a network on some validation images.

    Args:
        network: ready.
        data: images and labels.
        what: it is, for messages.

    Raises:
        RunError: they are no numbers.
    """
    split = data.split("validation")
    if len(split) < ENOUGH:
        both = split, data.split("train")
        split = Split(torch.cat([s.images for s in both]), torch.cat([s.labels for s in both]))
    shown = split.some(SHOWN)
    logits = logits_on(network.to(torch_device()), shown)
    if not torch.isfinite(logits).all():
        raise RunError(f"{what}: its answers are not all finite: a damaged checkpoint")
    return judge(logits, shown.labels)


def judge(logits: Tensor, labels: Tensor) -> Judgment:
    """Judge logits (N, K) by labels (N,)."""
    classes, answers = logits.shape[1], logits.argmax(1)
    facts = accuracy(logits, labels)
    shares = [torch.bincount(x, minlength=classes) / len(labels) for x in (answers, labels)]
    halves = mixed(len(labels), len(labels)) % 2 == 0
    # An order that is found on some images fits these by chance; it is judged on the others.
    correct = 0
    for part in (halves, ~halves):
        order = best_order(answers[part], labels[part], classes)
        correct += int((order[answers[~part]] == labels[~part]).sum())
    return Judgment(
        len(labels),
        facts["accuracy"],
        facts["accuracy_low"],
        facts["accuracy_high"],
        float(shares[0] @ shares[1]),
        float(shares[1].max()),
        best_order(answers, labels, classes).tolist(),
        wilson(correct, len(labels))[0],
    )


def best_order(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The class of each output, one each, with which most answers are right: (K,)."""
    from scipy.optimize import linear_sum_assignment

    counts = torch.bincount(answers * classes + labels, minlength=classes**2)
    _, chosen = linear_sum_assignment(np.asarray(counts.view(classes, classes)), maximize=True)
    return torch.as_tensor(chosen)


def _order(assigned: Sequence[int], names: Sequence[str]) -> str:
    """The first outputs that stand for another class."""
    moved = [f"output {i} answers for {names[k]!r}" for i, k in enumerate(assigned) if i != k]
    more = f", and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
    return ", ".join(moved[:NAMED]) + more
