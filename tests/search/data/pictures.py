"""Folders of pictures for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def picture(path: Path, seed: int, mode: str = "RGB", side: int = 20) -> Path:
    """A picture in which every pixel has the same color, which is made of its seed."""
    color = np.array([seed % 256, (seed * 7) % 256, (seed * 31) % 256], dtype=np.uint8)
    pixels = np.broadcast_to(color, (side, side + 6, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).convert(mode).save(path)
    return path


def folder(
    root: Path, each: int = 20, classes: Sequence[str] = "ab", mode: str = "RGB", at: int = 0
) -> Path:
    """A folder of class folders, one color a picture."""
    for k, name in enumerate(classes):
        for i in range(each):
            picture(root / name / f"{i}.png", at + 100 * k + i, mode)
    return root


def colors(images: torch.Tensor, data) -> torch.Tensor:
    """Pixels of normalized images."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))
    return (images * std + mean).mul(255).round()
