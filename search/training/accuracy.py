"""Accuracy and score of logits, with the interval of a share."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 1e-3  # cross entropy and share below which differences mean nothing
Z = 1.96  # of a 95% interval


def accuracy_and_score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy with its interval and score, by name.

    Raises:
        ArithmeticError: as `accuracy`.
    """
    return accuracy(logits, labels) | {"score": score(logits, labels)}


def score(logits: Tensor, labels: Tensor) -> float:
    """Score of logits: minus the logarithm of the cross entropy.

    It ranks networks better than accuracy does, because every image counts and not only those
    on which one network is right and another is wrong.
    """
    return -math.log(max(F.cross_entropy(logits, labels).item(), LEAST))


def accuracy(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy with its 95% interval, by name.

    Raises:
        ArithmeticError: a logit is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise ArithmeticError("the logits are not all finite")
    correct = int((logits.argmax(1) == labels).sum())
    low, high = wilson(correct, len(labels))
    return {"accuracy": correct / len(labels), "accuracy_low": low, "accuracy_high": high}


def wilson(correct: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927).

    >>> low, high = wilson(95, 100)
    >>> round(low, 3), round(high, 3)
    (0.888, 0.978)
    """
    share, z2 = correct / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
