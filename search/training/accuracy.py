"""Accuracies and scores of logits, with their intervals.

The balanced accuracy is the mean recall of the classes that have images (Brodersen et al., ICPR
2010): always answering with the most frequent of K classes gives 1 / K, whatever its share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 1e-3  # cross entropy and share below which differences mean nothing
Z = 1.96  # of a 95% interval

SCORES = {"accuracy": "score", "balanced_accuracy": "balanced_score"}  # that rank by each share


def accuracy_and_score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracies with their intervals and scores, by name.

    Raises:
        ArithmeticError: as `accuracy`.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    balanced = _by_class(losses, labels).mean().item()
    return accuracy(logits, labels) | {
        "score": score(logits, labels),
        "balanced_score": -math.log(max(balanced, LEAST)),
    }


def score(logits: Tensor, labels: Tensor) -> float:
    """Score of logits: minus the logarithm of the cross entropy.

    It ranks networks better than accuracy does, because every image counts and not only those
    on which one network is right and another is wrong.
    """
    return -math.log(max(F.cross_entropy(logits, labels).item(), LEAST))


def accuracy(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and balanced accuracy with their 95% intervals, by name.

    Raises:
        ArithmeticError: a logit is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise ArithmeticError("the logits are not all finite")
    right = logits.argmax(1) == labels
    correct = int(right.sum())
    low, high = wilson(correct, len(labels))
    found = {"accuracy": correct / len(labels), "accuracy_low": low, "accuracy_high": high}
    images = _images(labels)
    by_class = torch.bincount(labels[right], minlength=len(labels.bincount()))
    recalled = by_class[labels.unique()].tolist()
    return found | balanced_accuracy(recalled, images.tolist())


def balanced_accuracy(correct: list[int], images: list[int]) -> dict[str, float]:
    """Balanced accuracy with its 95% interval, by name.

    Wilson's intervals of the recalls are combined by MOVER (Zou and Donner, Statistics in Medicine
    27(10), 2008). Together they are too short on the side of 1 where many classes are nearly always
    right, so each side is at least that of a normal distribution, with every recall drawn to their
    mean by one image. In simulations 95% of the intervals or more hold the truth, from five images
    a class on.

    Args:
        correct: right answers of each class that has images.
        images: of each.
    """
    k, counts = len(images), list(zip(correct, images, strict=True))
    recalls = [c / n for c, n in counts]
    mean = math.fsum(recalls) / k
    drawn = [(c + mean) / (n + 1) for c, n in counts]
    normal = Z * math.sqrt(math.fsum(p * (1 - p) / n for p, n in zip(drawn, images, strict=True)))
    ends = [wilson(c, n) for c, n in counts]
    down, up = (
        math.hypot(*(end[side] - r for end, r in zip(ends, recalls, strict=True)))
        for side in (0, 1)
    )
    return {
        "balanced_accuracy": mean,
        "balanced_accuracy_low": max(0.0, mean - max(down, normal) / k),
        "balanced_accuracy_high": min(1.0, mean + max(up, normal) / k),
    }


def effective_images(labels: Tensor, goal: str) -> float:
    """Images in a plain sample that would tell a share as exactly as these labels do.

    For the balanced accuracy that is the harmonic mean of the images of a class, times the number
    of classes.

    Args:
        labels: (N,).
        goal: name of the share.
    """
    if goal == "accuracy":
        return len(labels)
    images = _images(labels)
    return len(images) ** 2 / (1 / images).sum().item()


def _images(labels: Tensor) -> Tensor:
    """Number of images of each class that has any."""
    return labels.unique(return_counts=True)[1]


def _by_class(values: Tensor, labels: Tensor) -> Tensor:
    """Mean value of each class that has images."""
    sums = torch.zeros(len(labels.bincount()), dtype=torch.float64)
    sums.index_add_(0, labels, values.double())
    return sums[labels.unique()] / _images(labels)


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
