"""Losses of a student that learns from labels and a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...spaces import Architecture
from ..config import DistillConfig

SMOOTHING = 0.1  # of labels, where they are learned directly


class Streams(NamedTuple):
    """The residual stream of a network for a batch of images.

    Attributes:
        architecture: of the network.
        left: what each block leaves, stage by stage, as tokens (B, N, C).
    """

    architecture: Architecture
    left: Sequence[Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs of a network for a batch of images.

    Attributes:
        logits: of each head (B, K); the second, if any, is the distillation head.
        tokens: the last tokens, normalized (B, N, C), class tokens left out.
        streams: how they came about; None where nobody asked.
    """

    logits: tuple[Tensor, ...]
    tokens: Tensor
    streams: Streams | None = None

    @property
    def mean(self) -> Tensor:
        """Logits that the network would give (B, K)."""
        return torch.stack(self.logits).mean(0)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch of images with its labels and the teacher's outputs.

    Attributes:
        images: (B, C, S, S).
        labels: (B,).
        logits: of the teacher (B, K).
        tokens: of the teacher (B, M, D), class tokens left out; only where a loss asks for them.
        weights: of the images (B,), where they do not count alike.
    """

    images: Tensor
    labels: Tensor
    logits: Tensor
    tokens: Tensor | None = None
    weights: Tensor | None = None

    def __getitem__(self, index: Tensor) -> Lesson:
        """Part of the batch."""
        return self._each(lambda part: part[index])

    def to(self, device: torch.device) -> Lesson:
        """Copy of the batch on a device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Lesson:
        inner = (None if part is None else change(part) for part in (self.tokens, self.weights))
        return Lesson(change(self.images), change(self.labels), change(self.logits), *inner)


def loss_of(answer: Answer, lesson: Lesson, config: DistillConfig) -> Tensor:
    """The loss of a network that learns from labels and teacher.

    "soft" and "hard" are half the labels and half the teacher: its probabilities (Hinton et al.,
    arXiv:1503.02531) or its decision. "token" gives the labels to the class head and the
    decision to the distillation head (DeiT, arXiv:2012.12877); a network with one head learns
    as with "hard". An image's weight holds for both, so that the sum is what drawing the images
    by their weights would give on average: on digits with 4 images of half of the classes, 240
    steps reached a balanced accuracy of 0.60 to 0.65, and 0.60 to 0.63 with weights on labels
    alone. The losses between features compare whole batches and have none.
    """
    told, weights = lesson.logits, lesson.weights
    labels = label_loss(answer.logits[0], lesson.labels, weights)
    if config.loss == "soft":
        taught = soft_cross_entropy(answer.logits[-1], told.softmax(-1), weights)
    else:
        taught = label_loss(answer.logits[-1], told.argmax(-1), weights, 0.0)
    loss = 0.5 * labels + 0.5 * taught
    if lesson.tokens is not None:
        if config.features:
            loss = loss + config.features * relation_loss(answer.tokens, lesson.tokens)
        if config.attention:
            loss = loss + config.attention * attention_loss(answer.tokens, lesson.tokens)
    return loss


def label_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float = SMOOTHING
) -> Tensor:
    """Mean cross entropy of logits (B, K) against labels (B,), by the weights of images (B,)."""
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (weights * each).mean()


def soft_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross entropy of logits (B, K) against probabilities (B, K), by weights (B,)."""
    each = (target * logits.log_softmax(-1)).sum(-1)
    return -(each if weights is None else weights * each).mean()


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Difference between two networks in which images of a batch they find alike.

    The squared distance of their normalized similarity matrices (Tung and Mori,
    arXiv:1907.09682), which needs no layer to translate between widths: one loss fits every
    candidate.

    Args:
        student: tokens (B, N, C).
        teacher: tokens (B, M, D).
    """
    a, b = (_similarities(tokens.float().mean(1)) for tokens in (student, teacher))
    return (a - b).square().sum(1).mean()


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Difference between two networks in where they look in an image.

    The squared distance of their normalized maps, at the coarser of the two grids, of what each
    place has to do with the whole: the product of its token and the mean of all, which a pooled
    classifier goes by (as class activation maps, arXiv:1512.04150, but for no class in particular).
    Maps of the energy of activations (arXiv:1612.03928) would tell nothing, as the last norm gives
    every token the same. It is defined for every mixer; a student that has dropped tokens has no
    grid and loses nothing.

    Args:
        student: tokens (B, N, C).
        teacher: tokens (B, M, D), a square grid.
    """
    both = student.float(), teacher.float()
    maps = [(tokens * tokens.mean(1, keepdim=True)).mean(-1) for tokens in both]  # (B, N)
    sides = [round(places.shape[1] ** 0.5) for places in maps]
    if sides[0] ** 2 != maps[0].shape[1]:
        return maps[0].sum() * 0
    side = min(sides)
    a, b = (
        F.normalize(
            F.adaptive_avg_pool2d(places.unflatten(1, (1, own, own)), side).flatten(1), dim=1
        )
        for places, own in zip(maps, sides, strict=True)
    )
    return (a - b).square().sum(1).mean()


def stream_loss(student: Tensor, teacher: Tensor, prefix: int) -> Tensor:
    """Squared distance of a student's stream from a teacher's, in variances of the latter.

    That of hidden states (Jiao et al., TinyBERT, arXiv:1909.10351), here relative to how they
    vary over images and tokens, so that one weight fits all depths and starts.

    Args:
        student: tokens (B, N, C); where it has dropped some, only the first ones are compared.
        teacher: tokens (B, M, C).
        prefix: number of class and register tokens, which are never dropped.
    """
    teacher = teacher.float()
    variance = (teacher - teacher.mean((0, 1))).square().mean()
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student[:, :prefix], teacher[:, :prefix]
    if not student.shape[1]:
        return student.sum()  # 0, as nothing is left to compare
    return (student.float() - teacher).square().mean() / variance.clamp_min(1e-12)


def _similarities(x: Tensor) -> Tensor:
    """Similarity of each image to each, as rows of unit length: (B, C) -> (B, B)."""
    return F.normalize(x @ x.T, dim=1)


Gradients = list[Tensor | None]


def without_conflict(first: Gradients, others: Gradients) -> Gradients:
    """Sum of two gradients, the first without its part that works against the second.

    Where the two point apart in a parameter, the first loses its component along the second
    (Gong et al., NASViT, ICLR 2022).

    Args:
        first: gradient of the largest network by parameter; None where it has none.
        others: of all other networks of the step.
    """
    sums: Gradients = []
    for a, b in zip(first, others, strict=True):
        if a is None or b is None:
            sums.append(b if a is None else a)
            continue
        dot = torch.sum(a * b)
        share = (dot / b.square().sum().clamp_min(1e-12)).clamp(-2, 0)
        sums.append(a + b - share * b)
    return sums
