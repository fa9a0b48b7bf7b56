"""Classes in the order of a file, which is that of a checkpoint's outputs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ....spaces.errors import RunError, did_you_mean
from ...counted import counted
from .listing import Listing, some


def with_look_alikes(listing: Listing) -> Listing:
    """The listing with a warning of classes whose names look the same."""
    names = listing.class_names
    pairs = [(one, name) for i, name in enumerate(names) if (one := alike(name, names[:i]))]
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
    look = _look(name)
    return next((other for other in names if other != name and _look(other) == look), None)


def _look(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def with_classes(listing: Listing, file: Path) -> Listing:
    """The listing with the classes of a file, one name a line, in its order.

    Classes of the file that have no image keep their number.

    Raises:
        RunError: it cannot be read, holds a name twice, or lacks a class of the images.
    """
    names = read_names(file, "data.classes")
    if unknown := [name for name in listing.class_names if name not in names]:
        raise RunError(
            f"data.classes: {file}: lacks {len(unknown)} of the {len(listing.class_names)} classes "
            f"of {listing.name}: {some(unknown)}. {_meant(unknown[0], names)}"
        )
    warnings = listing.warnings
    if empty := [name for name in names if name not in listing.class_names]:
        many = counted(len(empty), "class/classes")
        warnings += (f"without an image: {many} of {file.name}: {some(empty)}",)
    return replace(listing, class_names=tuple(names), warnings=warnings)


def read_names(file: Path, key: str) -> list[str]:
    """Names of classes from a file, one a line.

    Args:
        file: text in UTF-8.
        key: of the configuration, for messages.

    Raises:
        RunError: it cannot be read, or holds a name twice.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise RunError(f"{key}: {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{key}: {file}: not UTF-8 text: {error.reason}") from error
    names = [line.strip() for line in lines if line.strip()]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise RunError(f"{key}: {file}: holds {some(twice)} twice")
    return names


def _meant(name: str, names: list[str]) -> str:
    if not names:
        return "It is empty"
    if other := alike(name, names):
        return f"It holds {other!a}, the class is {name!a}"
    return did_you_mean(name, names)
