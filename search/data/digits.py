"""Scans of handwritten digits, which come with scikit-learn."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES = tuple(str(digit) for digit in range(10))


def read_digits(size: int) -> tuple[Tensor, Tensor]:
    """1,797 scans of handwritten digits, 8x8 in 17 levels of gray (Alpaydin and Kaynak, UCI)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16
    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return (255 * images).round().clamp(0, 255).byte(), torch.from_numpy(labels).long()
