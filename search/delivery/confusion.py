"""Confusion: what a model answers to the images of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .claims import read_part


@dataclass(frozen=True, slots=True)
class ClassResult:
    """Answers to the images of one class: a row of a confusion matrix.

    Attributes:
        name: of the class.
        images: number of them.
        recall: share that was answered with this class; None where there is no image.
        answers: label, as text -> number of images that were answered with it; none is 0.
    """

    name: str
    images: int
    recall: float | None
    answers: Mapping[str, int]


def class_results(logits: Tensor, labels: Tensor, names: Sequence[str]) -> tuple[ClassResult, ...]:
    """The confusion matrix of logits (N, K) on labels (N,), a row for each class."""
    k = len(names)
    matrix = torch.bincount(labels * k + logits.argmax(1), minlength=k * k).view(k, k).tolist()
    return tuple(
        ClassResult(
            name,
            images := sum(row),
            row[label] / images if images else None,
            {str(answer): n for answer, n in enumerate(row) if n},
        )
        for label, (name, row) in enumerate(zip(names, matrix, strict=True))
    )


def read_classes(data: Any) -> tuple[ClassResult, ...]:
    """Read the rows of a confusion matrix from plain data.

    Raises:
        RunError: one lacks a value.
    """
    return tuple(read_part(ClassResult, row) for row in data)
