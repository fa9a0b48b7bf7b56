"""Balance: what is done, and said, about classes of very different frequency."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

UNEVEN = 5  # times the images of the smallest class in the largest one, from which it is said
FEW = 20  # train images of a class below which it is said


def class_weights(labels: Tensor) -> Tensor:
    """Weight of each image (N,): inverse to the frequency of its class, 1 on average."""
    classes, index, images = labels.unique(return_inverse=True, return_counts=True)
    return (len(labels) / (len(classes) * images))[index]


def drawn_equally(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Indices (N,) of as many images as there are, from all classes equally often, in any order.

    An image comes again only when all of its class have come.
    """
    classes = labels.unique()
    each, left = divmod(len(labels), len(classes))
    more = set(torch.randperm(len(classes), generator=generator)[:left].tolist())
    drawn: list[Tensor] = []
    for number, label in enumerate(classes):
        members = (labels == label).nonzero().flatten()
        wanted = each + (number in more)
        rounds = range(-(-wanted // len(members)))
        order = [torch.randperm(len(members), generator=generator) for _ in rounds]
        drawn.append(members[torch.cat(order)[:wanted]] if order else members[:0])
    together = torch.cat(drawn)
    return together[torch.randperm(len(together), generator=generator)]


def balance_warning(counts: Mapping[str, int]) -> str | None:
    """A line about uneven or small classes, with what to do; None where there are none.

    Args:
        counts: train images by class.

    >>> print(balance_warning({"cat": 90, "dog": 70}))
    None
    """
    if not any(counts.values()):
        return None
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    few = [name for name, images in counts.items() if images < FEW]
    uneven = counts[most] >= UNEVEN * max(1, counts[least])
    if not (uneven or few):
        return None
    said = f"class {most!r} has {counts[most]:,} train images, {least!r} has {counts[least]:,}"
    if few and not uneven:
        named = ", ".join(map(repr, few[:3])) + (f" and {len(few) - 3} more" if few[3:] else "")
        said = f"fewer than {FEW} train images in {len(few)} of {len(counts)} classes: {named}"
    share = counts[most] / max(1, sum(counts.values()))
    return (
        f"{said}; always answering {most!r} would have an accuracy of {share:.0%}: trade or limit "
        "balanced_accuracy instead, and set data.balance to weight or sample"
    )
