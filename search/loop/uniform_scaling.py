"""Scaling: candidates in which every choice stands at the same share of its range."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...spaces import Choice, Scalar, SearchSpace
from ...spaces.schema import is_inverse, plain


def ascending(choice: Choice) -> list[Scalar]:
    """Values of a choice, the one that makes the smallest network first; names as listed."""
    if any(isinstance(value, str | bool) for value in choice.values):
        return list(choice.values)
    return sorted(choice.values, reverse=is_inverse(plain(field(choice))))


def field(choice: Choice) -> str:
    """Field of a choice, without its path.

    >>> field(Choice("stages.0.blocks.2.mlp_ratio", (1.0, 2.0)))
    'mlp_ratio'
    """
    return choice.name.rpartition(".")[2]


def scalings(
    space: SearchSpace, n: int, scaled: Callable[[Choice], bool] = lambda _: True
) -> list[dict[str, Scalar]]:
    """Assignments from the smallest to the largest, in `n` equal steps.

    Args:
        space: of the assignments.
        n: steps, ends included; at least 2.
        scaled: which choices grow; the others, and those of names, are as in `largest`.
    """
    numbers = [c for c in space.parameters if scaled(c) and not _names(c.values)]
    return [
        {c.name: ascending(c)[round(step / (n - 1) * (len(c.values) - 1))] for c in numbers}
        for step in range(n)
    ]


def _names(values: Sequence[Scalar]) -> bool:
    return any(isinstance(value, str | bool) for value in values)
