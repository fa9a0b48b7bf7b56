"""Letters: what delivered models are called in reports and tables."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase


def letters_of(delivered: Sequence[object]) -> list[str]:
    """A letter for each model, the fastest one first; after Z it is A1.

    >>> letters_of(range(28))[24:]
    ['Y', 'Z', 'A1', 'B1']
    """
    turns = (divmod(number, len(ascii_uppercase)) for number in range(len(delivered)))
    return [ascii_uppercase[place] + (str(turn) if turn else "") for turn, place in turns]
