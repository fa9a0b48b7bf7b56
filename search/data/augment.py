"""Augment: rotated, shifted, zoomed and flipped views of the train images, made on tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .rows import Rows

DEGREES, SHIFT, ZOOM = 10.0, 0.08, 0.1
KEPT_MB = 256  # of views, which all trainings of a process share
CHUNK = 64  # images at once


@dataclass(frozen=True, slots=True)
class Norm:
    """Mean and standard deviation per channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> Norm:
        """Mean and deviation of images uint8 (N, C, S, S)."""
        pixels = images.float() / 255
        std = pixels.std((0, 2, 3)).clamp_min(1e-3)
        return cls(tuple(pixels.mean((0, 2, 3)).tolist()), tuple(std.tolist()))

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize images uint8 (N, C, S, S) to float32."""
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return images.float().div_(255).sub_(mean).div_(std)  # in place: sets may be large


class Views(Protocol):
    """Train images, as training sees them."""

    def batches(self, view: int, chunks: Sequence[Tensor]) -> Iterator[Tensor]:
        """A view of the images of each chunk of indices, normalized: (B, C, S, S).

        The same view of an image is the same each time.
        """
        ...


class Kept:
    """Train images whose views are made on tensors, and kept where there is room.

    Args:
        rows: pixels of the images.
        norm: of pixels.
        flip: whether left and right may change sides.
    """

    def __init__(self, rows: Rows, norm: Norm, flip: bool = False) -> None:
        self._rows, self._norm, self._flip = rows, norm, flip
        self._made: dict[int, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": {}}  # a worker makes them faster than they travel

    def batches(self, view: int, chunks: Sequence[Tensor]) -> Iterator[Tensor]:
        """A view of the images of each chunk: (B, C, S, S)."""
        made = self._made.get(view)
        if made is None and (len(self._made) + 1) * self._view_mb() <= KEPT_MB:
            everything = torch.arange(len(self._rows))
            made = torch.cat(list(self._views(view, everything.split(CHUNK))))
            self._made[view] = made
        yield from self._views(view, chunks) if made is None else (made[i] for i in chunks)

    def _view_mb(self) -> float:
        first = self._rows[torch.zeros(1, dtype=torch.long)]
        return 4 * len(self._rows) * first.numel() / 2**20

    def _views(self, view: int, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        drawn = draws(len(self._rows), view)
        for index in chunks:
            yield augmented(self._norm(self._rows[index]), drawn[:, index], self._flip)


def draws(n: int, seed: int) -> Tensor:
    """Random numbers behind one view of each of `n` images: (5, n) in [-1, 1)."""
    return 2 * torch.rand(5, n, generator=torch.Generator().manual_seed(seed)) - 1


def augmented(images: Tensor, drawn: Tensor, flip: bool = False) -> Tensor:
    """One view of every image: rotated by up to 10 degrees, shifted by 8%, zoomed by 10%.

    Args:
        images: normalized, (N, C, S, S); pixels from outside repeat the border.
        drawn: from `draws`, (5, N).
        flip: whether left and right may change sides.

    Returns:
        Tensor of the same shape.
    """
    angle, zoom, across, down, side = drawn.unbind()
    angle, zoom = angle * (DEGREES * torch.pi / 180), 1 + ZOOM * zoom
    mirror = torch.where(side < 0, -1.0, 1.0) if flip else 1.0
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    # The grid spans [-1, 1], so that a shift of the whole image is 2.
    rows = [mirror * cos, -sin, 2 * SHIFT * across], [mirror * sin, cos, 2 * SHIFT * down]
    matrices = torch.stack([torch.stack(row, -1) for row in rows], 1).to(images.device)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
