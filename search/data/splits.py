"""Splits: the images of a source in four parts that share no image and no group."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...spaces.errors import RunError

DECLARED = ("test", "validation")  # that a source may bring, the more precious one first
SPLITS: tuple[str, ...] = ("train", "search", "validation", "test")


def split_by_class(
    labels: Tensor,
    shares: Mapping[str, float],
    seed: int,
    groups: Tensor | None = None,
) -> dict[str, Tensor]:
    """Indices of every split, the same shares of each class; "train" gets the rest.

    Each split has an image of each class at least, where a class has as many as there are splits.
    A group goes as a whole to the first split that has room for it; a split that is left without a
    class gets a small group of it from one that has several.

    Args:
        labels: (N,).
        shares: of each split but "train".
        seed: of the choice.
        groups: number of the group of every image (N,); each is one of its own by default.

    Raises:
        RunError: the shares leave nothing to train on.
    """
    if (total := sum(shares.values())) >= 1:
        keys = ", ".join(f"data.{name} {share:g}" for name, share in shares.items())
        raise RunError(f"{keys}: add up to {total:g}, so no image is left to train on")
    generator = torch.Generator().manual_seed(seed)
    groups = torch.arange(len(labels)) if groups is None else groups
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(i)
    group_of, label_of = groups.tolist(), labels.tolist()
    part_of: dict[int, str] = {}  # of a group
    taken = Counter[tuple[str, int]]()  # images of a class in a split
    classes = labels.unique().tolist()
    for label in classes:
        of_class = (labels == label).nonzero().flatten()
        of_class = of_class[torch.randperm(len(of_class), generator=generator)].tolist()
        enough = len(of_class) > len(shares)
        wanted = {p: enough * max(1, math.floor(len(of_class) * s)) for p, s in shares.items()}
        for group in dict.fromkeys(group_of[i] for i in of_class):
            if group in part_of:
                continue
            found = Counter(label_of[i] for i in members[group])
            room = (p for p, n in wanted.items() if taken[p, label] + found[label] <= n)
            part_of[group] = part = next(room, "train")
            taken.update({(part, c): n for c, n in found.items()})
    for label in classes:
        lacking = [part for part in ("train", *shares) if not taken[part, label]]
        own = groups[labels == label].unique().tolist() if lacking else []
        if len(own) <= len(shares):
            continue
        for group in sorted(own, key=lambda g: (part_of[g] != "train", len(members[g]))):
            found, donor = Counter(label_of[i] for i in members[group]), part_of[group]
            if lacking and all(taken[donor, c] > n for c, n in found.items()):
                part_of[group] = part = lacking.pop(0)
                taken.update({(part, c): n for c, n in found.items()})
                taken.subtract({(donor, c): n for c, n in found.items()})
    parts: dict[str, list[int]] = {part: [] for part in ("train", *shares)}
    for i, group in enumerate(group_of):
        parts[part_of[group]].append(i)
    return {part: torch.tensor(index, dtype=torch.long) for part, index in parts.items()}


def check_splits(labels: Tensor, parts: Mapping[str, Tensor], names: Sequence[str] = ()) -> None:
    """Check that every split has images of every class.

    Args:
        labels: (N,).
        parts: indices by split.
        names: of the classes, where they have any, for people.

    Raises:
        RunError: one has not.
    """
    for label, total in zip(*(v.tolist() for v in labels.unique(return_counts=True)), strict=True):
        for part, index in parts.items():
            if not len(index) or not (labels[index] == label).any():
                name = repr(names[label]) if names else label
                raise RunError(
                    f"data: class {name} has too few images for the {part} split, {total} in all: "
                    f"each of {', '.join(parts)} needs one at least, and copies and groups stay in "
                    "one split"
                )
