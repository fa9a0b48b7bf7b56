"""Encoder: the choices of candidates as numbers from which their scores can be predicted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...spaces import Choice, Scalar

Array = NDArray[np.float64]


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
        # Row 0 of the codes of a choice stands for no effect.
        self._rows = {c.name: {value: n for n, value in enumerate(c.values, 1)} for c in choices}
        self._codes = [_codes(choice) for choice in choices]
        groups: dict[tuple[str, tuple[Scalar, ...]], list[int]] = {}
        for number, choice in enumerate(choices):
            kind = re.sub(r"\d+", "*", choice.name), choice.values
            groups.setdefault(kind, []).append(number)
        self._groups = [members for members in groups.values() if len(members) > 1]

    def __call__(self, assignments: Sequence[Mapping[str, Scalar]]) -> Array:
        """Vectors (N, D) of the choices that have an effect."""
        rows = np.array(
            [
                [known[a[name]] if name in a else 0 for name, known in self._rows.items()]
                for a in assignments
            ],
            np.intp,
        ).reshape(len(assignments), len(self._rows))
        own = [codes[rows[:, n]] for n, codes in enumerate(self._codes)]
        means = [
            sum((own[n] for n in members), np.zeros_like(own[members[0]]))
            / np.maximum((rows[:, members] > 0).sum(1), 1)[:, None]
            for members in self._groups
        ]
        return np.hstack([np.empty((len(rows), 0)), *own, *means])  # also where nothing is chosen


def _codes(choice: Choice) -> Array:
    """One row for no effect, then one a value."""
    n = len(choice.values)
    if any(isinstance(value, str) for value in choice.values):
        return np.eye(n + 1, n, -1)
    rank = np.argsort(np.argsort([float(value) for value in choice.values]))
    return np.concatenate([[0.0], 2 * rank / max(1, n - 1) - 1])[:, None]
