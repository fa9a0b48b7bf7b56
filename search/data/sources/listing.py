"""Listing: the images of a source with label, split and group, before any of them is decoded."""

from __future__ import annotations

import hashlib
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Protocol

from PIL import Image

from ..decoding import NO_FILE
from ..pixels import UnreadableImage, open_image

DIGEST_BYTES = 16
NAMED = 3  # examples that a message names
NO_SEPARATOR = r" (paths need / instead of \)"

Natural = tuple[list[int | str], str]  # key of an order

# Names of splits that a person may use, and ours; "search" is always cut from the train split.
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a source.

    Attributes:
        name: of its file below the root, or its number in a data set.
        label: its class.
        split: train, validation or test where the source says so; empty leaves it to the run.
        group: images of the same group stay in one split; empty for none.
    """

    name: str
    label: str
    split: str = ""
    group: str = ""


class Reader(Protocol):
    """Reads the images of a listing; a copy of it in another thread or process does so, too."""

    def __call__(self, index: int) -> tuple[Image.Image, str]:
        """An image, of which at least the header was read, and a digest of its content.

        Raises:
            UnreadableImage: it is damaged, missing, too large or of an unknown format.
        """
        ...

    def stamp(self, index: int) -> str:
        """What changes when the image does, and needs no reading; empty where nothing tells."""
        ...


@dataclass(frozen=True)
class Listing:
    """The images of a source.

    Attributes:
        name: of the source, for people.
        entries: one an image.
        class_names: in the order of the labels.
        read: reads an image by its index.
        skipped: reason -> names of the files that are no images or must not be read.
        warnings: lines for the user.
    """

    name: str
    entries: Sequence[Entry]
    class_names: tuple[str, ...]
    read: Reader
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> list[int]:
        """Number of the class of every entry."""
        numbers = {name: i for i, name in enumerate(self.class_names)}
        return [numbers[entry.label] for entry in self.entries]

    def only(self, index: Sequence[int]) -> Listing:
        """The listing with some of its images."""
        return replace(self, entries=[self.entries[i] for i in index], read=_Some(self.read, index))


@dataclass(frozen=True)
class _Some:
    """Reads some images of another reader."""

    read: Reader
    index: Sequence[int]

    def __call__(self, index: int) -> tuple[Image.Image, str]:
        return self.read(self.index[index])

    def stamp(self, index: int) -> str:
        """See `Reader`."""
        return self.read.stamp(self.index[index])


@dataclass(frozen=True)
class FileReader:
    """Reads image files by their position in a list of paths."""

    paths: Sequence[Path]

    def __call__(self, index: int) -> tuple[Image.Image, str]:
        """See `Reader`."""
        path = self.paths[index]
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
                raise UnreadableImage(NO_FILE)
            data = path.read_bytes()
        except PermissionError as error:
            raise UnreadableImage("no permission to read it") from error
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            # Where a backslash separates folders, no name holds one.
            missing = isinstance(error, FileNotFoundError) and "\\" in path.name
            raise UnreadableImage(reason + NO_SEPARATOR * missing) from error
        except ValueError as error:  # a null in its name
            raise UnreadableImage(NO_FILE) from error
        return open_image(BytesIO(data)), digest(data)

    def stamp(self, index: int) -> str:
        """See `Reader`."""
        try:
            found = self.paths[index].stat()
        except (OSError, ValueError):
            return ""
        return f"{found.st_size} {found.st_mtime_ns}"


def digest(data: bytes) -> str:
    """Digest of the content of a file."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def natural(name: str) -> Natural:
    """Key of a total order in which 9 comes before 10, whatever the case.

    >>> sorted(["b10", "B9", "a", "01", "1"], key=natural)
    ['01', '1', 'a', 'B9', 'b10']
    """
    parts = re.split(r"(\d+)", name)  # text and numbers in turn
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)], name


def in_natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Different names in natural order."""
    return tuple(sorted(set(names), key=natural))


class Skipped:
    """Names of files that are left out, by reason."""

    def __init__(self) -> None:
        self._names: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: str) -> None:
        """Leave out a file."""
        self._names[reason].append(name)

    def by_reason(self) -> dict[str, tuple[str, ...]]:
        """Names in natural order, the most frequent reason first."""
        ordered = sorted(self._names.items(), key=lambda item: (-len(item[1]), item[0]))
        return {reason: tuple(sorted(names, key=natural)) for reason, names in ordered}


def some(names: Sequence[str]) -> str:
    """The first names of many, for a message.

    >>> some(["a", "b", "c", "d", "e"])
    "'a', 'b', 'c' and 2 more"
    """
    listed = ", ".join(repr(name) for name in names[:NAMED])
    return listed if len(names) <= NAMED else f"{listed} and {len(names) - NAMED} more"
