"""Classes in the order of a file, which is that of a checkpoint's outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ....spaces.errors import RunError, did_you_mean
from .listing import Listing, some


def with_classes(listing: Listing, file: Path) -> Listing:
    """The listing with the classes of a file, one name a line, in its order.

    Classes of the file that have no image keep their number.

    Raises:
        RunError: it cannot be read, holds a name twice, or lacks a class of the images.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise RunError(f"data.classes: {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"data.classes: {file}: not UTF-8 text: {error.reason}") from error
    names = [line.strip() for line in lines if line.strip()]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise RunError(f"data.classes: {file}: holds {some(twice)} twice")
    if unknown := [name for name in listing.class_names if name not in names]:
        raise RunError(
            f"data.classes: {file}: lacks {len(unknown)} of the {len(listing.class_names)} classes "
            f"of {listing.name}: {some(unknown)}. {did_you_mean(unknown[0], names)}"
        )
    warnings = listing.warnings
    if empty := [name for name in names if name not in listing.class_names]:
        warnings += (f"{len(empty)} classes of {file.name} have no image: {some(empty)}",)
    return replace(listing, class_names=tuple(names), warnings=warnings)
