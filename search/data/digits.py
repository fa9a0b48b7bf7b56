"""Scans of handwritten digits, which come with scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES = tuple(str(digit) for digit in range(10))
GRAY = 1  # channels


def read_digits(size: int) -> tuple[Tensor, Tensor]:
    """1,797 scans of handwritten digits, 8x8 in 17 levels of gray (Alpaydin and Kaynak, UCI).

    They are read as `sklearn.datasets.load_digits` does, from the same file: a row an image, its
    64 pixels and its label. To import scikit-learn takes longer than most of what is done to them.
    """
    rows = np.loadtxt(_folder() / "datasets/data/digits.csv.gz", delimiter=",")
    pixels, labels = rows[:, :-1], rows[:, -1]
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16
    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return (255 * images).round().clamp(0, 255).byte(), torch.from_numpy(labels).long()


def _folder() -> Path:
    """Where scikit-learn is installed."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    return Path(spec.origin).parent
