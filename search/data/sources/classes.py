"""Classes in the order of a file, which is that of a checkpoint's outputs."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ....spaces.errors import RunError, did_you_mean
from ...counted import counted
from .listing import Listing, some


def with_look_alikes(listing: Listing) -> Listing:
    """The listing with a warning of classes whose names look the same."""
    firsts = by_look(listing.class_names)
    both = ((firsts[look(name)], name) for name in listing.class_names)
    pairs = [(one, name) for one, name in both if one != name]
    if not pairs:
        return listing
    first = " and ".join(map(ascii, pairs[0]))
    line = f"classes of their own, that differ in case or in how letters are coded: {first}"
    if more := len(pairs) - 1:
        line += f", and {more} more"
    return replace(listing, warnings=(*listing.warnings, line))


def alike(name: str, names: Iterable[str]) -> str | None:
    """The first of other names that differs from one in case or in how letters are coded alone.

    >>> alike("Cat", ["dog", "cat"])
    'cat'
    """
    return by_look(other for other in names if other != name).get(look(name))


def by_look(names: Iterable[str]) -> dict[str, str]:
    """The first name of each look."""
    found = dict[str, str]()
    for name in names:
        found.setdefault(look(name), name)
    return found


def look(name: str) -> str:
    """What names have in common that differ in case or in how letters are coded alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def with_classes(listing: Listing, file: Path) -> Listing:
    """The listing with the classes of a file, one name a line, in its order.

    Classes of the file that have no image keep their number.

    Raises:
        RunError: it cannot be read, holds a name twice, or lacks a class of the images.
    """
    names = read_names(file, "data.classes")
    if twice := repeated(names):
        raise RunError(f"data.classes: {file}: holds {some(twice)} twice")
    known, needed = {*names}, {*listing.class_names}
    if unknown := [name for name in listing.class_names if name not in known]:
        raise RunError(
            f"data.classes: {file}: lacks {len(unknown)} of the {len(listing.class_names)} classes "
            f"of {listing.name}: {some(unknown)}. {_meant(unknown[0], names)}"
        )
    warnings = listing.warnings
    if empty := [name for name in names if name not in needed]:
        many = counted(len(empty), "class/classes")
        warnings += (f"without an image: {many} of {file.name}: {some(empty)}",)
    return replace(listing, class_names=tuple(names), warnings=warnings)


def read_names(file: Path, key: str) -> list[str]:
    """Names of classes from a file, one a line.

    Args:
        file: text in UTF-8.
        key: of the configuration, for messages.

    Raises:
        RunError: it cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise RunError(f"{key}: {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{key}: {file}: not UTF-8 text: {error.reason}") from error
    return [line.strip() for line in lines if line.strip()]


def repeated(names: Iterable[str]) -> list[str]:
    """Names that stand more than once."""
    return [name for name, times in Counter(names).items() if times > 1]


def _meant(name: str, names: list[str]) -> str:
    if not names:
        return "It is empty"
    if other := alike(name, names):
        return f"It holds {other!a}, the class is {name!a}"
    return did_you_mean(name, names)
