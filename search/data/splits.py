"""Splits: the images of a source in four parts that share no image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...spaces.errors import RunError
from .augment import Views


@dataclass(frozen=True, slots=True)
class Images:
    """Images and labels by split.

    Attributes:
        class_names: one a class, in the order of the labels.
        pixels: uint8 (N, C, S, S) by split; of a train split that is not in memory, a sample.
        labels: (N,) by split, for the train split of all its images.
        stream: makes the views of a train split that is not in memory.
    """

    class_names: tuple[str, ...]
    pixels: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    stream: Views | None = None


def split_by_class(
    labels: Tensor, shares: Mapping[str, float], seed: int, names: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Indices of every split, the same shares of each class; "train" gets the rest.

    Args:
        labels: (N,).
        shares: of each split but "train".
        seed: of the choice.
        names: of the classes, where they have any, for people.

    Raises:
        RunError: a split would lack a class.
    """
    if (total := sum(shares.values())) >= 1:
        raise RunError(f"data: no image is left to train on, shares add up to {total:g}")
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, list[Tensor]] = {part: [] for part in ("train", *shares)}
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        total = len(members)
        for part, share in shares.items():
            n = math.floor(total * share)
            parts[part].append(members[:n])
            members = members[n:]
        parts["train"].append(members)
        for part, chosen in parts.items():
            if not len(chosen[-1]):
                name = repr(names[label]) if names else label
                raise RunError(
                    f"data: class {name} has too few images for the {part} split, {total} in all"
                )
    return {part: torch.cat(chosen).sort().values for part, chosen in parts.items()}
