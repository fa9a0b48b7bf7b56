"""Encode: the choices of a candidate as numbers from which its score can be predicted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..spaces import Choice, Scalar


class Encoder:
    """Vectors of assignments.

    Each choice gives one column a value if its values are names, else one column with the rank
    of its value from -1 to 1; a choice that has no effect gives zeros. Choices that are drawn
    once a block share further columns with their mean over the blocks that are there: what a
    mixer does to accuracy is learned from all blocks at once.

    Args:
        choices: of the space.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._codes: dict[str, dict[Scalar, NDArray[np.float64]]] = {}
        self._columns: dict[str, slice] = {}
        groups: dict[tuple[str, tuple[Scalar, ...]], list[str]] = {}
        width = 0
        for choice in choices:
            codes = _codes(choice)
            self._codes[choice.name] = dict(zip(choice.values, codes, strict=True))
            self._columns[choice.name] = slice(width, width + codes.shape[1])
            width += codes.shape[1]
            kind = re.sub(r"\d+", "*", choice.name), choice.values
            groups.setdefault(kind, []).append(choice.name)
        self._own = width
        self._groups = [names for names in groups.values() if len(names) > 1]

    def __call__(self, assignment: Mapping[str, Scalar]) -> NDArray[np.float64]:
        """The vector of the choices that have an effect, (D,)."""
        own = np.zeros(self._own)
        for name, value in assignment.items():
            own[self._columns[name]] = self._codes[name][value]
        means: list[NDArray[np.float64]] = [own]
        for names in self._groups:
            there = [own[self._columns[name]] for name in names if name in assignment]
            means.append(
                sum(there, np.zeros_like(own[self._columns[names[0]]])) / max(1, len(there))
            )
        return np.concatenate(means)


def _codes(choice: Choice) -> NDArray[np.float64]:
    """One row a value."""
    n = len(choice.values)
    if any(isinstance(value, str) for value in choice.values):
        return np.eye(n)
    rank = np.argsort(np.argsort([float(value) for value in choice.values]))
    return (2 * rank / max(1, n - 1) - 1)[:, None]
