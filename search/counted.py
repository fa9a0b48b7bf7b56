"""Counted: numbers with their nouns, for sentences."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """A number and its noun, which gets an s unless there is one.

    >>> counted(1, "file"), counted(2062, "file"), counted(0, "class/classes")
    ('1 file', '2,062 files', '0 classes')

    Args:
        n: the number.
        noun: in the singular; or both forms with a slash between them.
    """
    one, _, many = noun.partition("/")
    return f"{n:,} {one if n == 1 else many or one + 's'}"
