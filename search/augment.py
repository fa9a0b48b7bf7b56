"""Augmentation of images that are in memory as tensors: small rotations, shifts and zooms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DEGREES, SHIFT, ZOOM = 10.0, 0.08, 0.1


def augmented(images: Tensor, seed: int) -> Tensor:
    """One random view of every image; the same seed gives the same views.

    Args:
        images: normalised, (N, C, S, S); what comes in from outside repeats the border.
        seed: of rotations up to 10 degrees, shifts up to 8% and zooms up to 10%.

    Returns:
        Tensor of the same shape.
    """
    generator = torch.Generator().manual_seed(seed)
    angle, zoom, across, down = (2 * torch.rand(4, len(images), generator=generator) - 1).unbind()
    angle, zoom = angle * (DEGREES * torch.pi / 180), 1 + ZOOM * zoom
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    # The grid spans [-1, 1], so that a shift of the whole image is 2.
    rows = [cos, -sin, 2 * SHIFT * across], [sin, cos, 2 * SHIFT * down]
    matrices = torch.stack([torch.stack(row, -1) for row in rows], 1)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
