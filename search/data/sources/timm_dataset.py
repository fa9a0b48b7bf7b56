"""Data sets as timm's `create_dataset` names them: torchvision's, Hugging Face's and its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset

from ....spaces.errors import RunError, first_line
from ..pixels import UnreadableImage, open_image
from .listing import Entry, FileReader, Listing, Reader, digest

# To timm every other name means a folder, in which it takes labels from the innermost folders.
LIBRARIES = ("torch", "hfds", "hfids", "tfds", "wds")
ONE_NUMBER = "needs one whole number as the label of each image"
UNREADABLE = (OSError, SyntaxError, ValueError, IndexError, KeyError)


def list_timm(name: str, root: str, train_split: str, test_split: str) -> Listing:
    """List a data set of timm, in the order of its own labels.

    Args:
        name: "torch/cifar10", "hfds/user/name", "tfds/..." and others.
        root: its folder.
        train_split: part of it that our splits are cut from.
        test_split: part of it that is the test split; empty for none.

    Raises:
        RunError: no such data set, folder or split; one of its packages is not installed; it
            does not list its labels, or not one number for each image; or the classes of the two
            parts differ.
    """
    library, slash, _ = name.partition("/")
    if not slash or library.lower() not in LIBRARIES:
        raise RunError(
            f"data.name: need digits, folder, or LIBRARY/NAME with one of {', '.join(LIBRARIES)}, "
            f"got {name!r}: class folders and tables need data.root alone"
        )
    parts = [(train_split, "train" if test_split else "")]
    parts += [(test_split, "test")] if test_split else []
    datasets, entries, places = list[Any](), list[Entry](), list[tuple[int, int]]()
    names: tuple[str, ...] | None = None
    for number, (part, split) in enumerate(parts):
        dataset = _opened(name, root, part)
        labels = _labels(name, dataset)
        if labels is None or not hasattr(type(dataset), "__getitem__"):
            raise RunError(
                f"data: {name}: can only be read in one go: write its images into class folders"
            )
        own = _class_names(dataset) or tuple(map(str, range(max(labels, default=-1) + 1)))
        if names is not None and own != names:
            odd = ", ".join(sorted(set(names) ^ set(own))[:5]) or "in another order"
            raise RunError(f"data: {name}: classes of {train_split} and {part} differ: {odd}")
        names = own
        if labels and not 0 <= min(labels) <= max(labels) < len(own):
            raise RunError(
                f"data: {name}: labels from {min(labels)} to {max(labels)} do not fit its "
                f"{len(own)} classes"
            )
        datasets.append(dataset)
        entries += [Entry(f"{part}/{i}", own[label], split) for i, label in enumerate(labels)]
        places += [(number, i) for i in range(len(labels))]
    label = f"{name} {root}".strip()
    return Listing(label, entries, names or (), PartsReader([*map(_reader, datasets)], places))


@dataclass(frozen=True)
class PartsReader:
    """Reads images of several data sets by the number of the set and of the image in it."""

    readers: Sequence[Reader]
    places: Sequence[tuple[int, int]]

    def __call__(self, index: int) -> tuple[Image.Image, str]:
        """See `Reader`."""
        number, i = self.places[index]
        return self.readers[number](i)

    def stamp(self, index: int) -> str:
        """See `Reader`."""
        number, i = self.places[index]
        return self.readers[number].stamp(i)


@dataclass(frozen=True)
class TimmReader:
    """Reads images that a data set of timm holds as files within others, or decoded."""

    dataset: Any

    def __call__(self, index: int) -> tuple[Image.Image, str]:
        """See `Reader`."""
        try:
            held, _ = getattr(self.dataset, "reader", self.dataset)[index]
            if isinstance(held, Image.Image):
                return held, digest(held.tobytes())
            with held as file:
                data = file.read()
        except UNREADABLE as error:
            raise UnreadableImage("damaged") from error
        return open_image(BytesIO(data)), digest(data)

    def stamp(self, index: int) -> str:
        """See `Reader`; these data sets are written once."""
        return ""


def _reader(dataset: Any) -> Reader:
    """What reads a data set: its files as all others, where it lists them with their labels.

    The loader of torchvision makes all of them RGB in a way of its own.
    """
    files = getattr(dataset, "imgs", None)
    return TimmReader(dataset) if files is None else FileReader([Path(file) for file, _ in files])


def _opened(name: str, root: str, split: str) -> Any:
    try:
        return create_dataset(name, root, split=split, download=False, input_img_mode="")
    except (OSError, RuntimeError, ValueError, ImportError, AssertionError) as error:
        about = first_line(error)
        raise RunError(f"data: {name} {root}".strip() + f", split {split!r}: {about}") from error


def _class_names(dataset: Any) -> tuple[str, ...]:
    """Classes in the order of the labels; empty where the data set does not name them.

    A class of several names has the first one. Of two classes of one name, such as ImageNet's
    cranes, only the second is named, and the first is called by its number.
    """
    for holder in (getattr(dataset, "reader", None), dataset):
        if numbers := getattr(holder, "class_to_idx", None):
            names = dict[int, str]()
            for name, number in numbers.items():
                names.setdefault(int(number), name)
            return tuple(names.get(i, f"class {i}") for i in range(max(names) + 1))
    return ()


def _labels(name: str, dataset: Any) -> list[int] | None:
    """Labels of all images, none decoded; None where the data set does not list them.

    Raises:
        RunError: an image has none, several, or one that is no number.
    """
    reader: Any = getattr(dataset, "reader", None)
    column = getattr(reader, "label_key", None)  # Hugging Face's
    try:
        labels: Any = reader.dataset[column] if column else getattr(dataset, "targets", None)
    except KeyError as error:
        raise RunError(f"data: {name}: {ONE_NUMBER}, has no column {column!r}") from error
    return None if labels is None else [_number(name, label) for label in labels]


def _number(name: str, label: Any) -> int:
    """A label, which some data sets hold as text or as a tensor."""
    try:
        if (number := int(label)) == float(label):
            return number
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise RunError(f"data: {name}: {ONE_NUMBER}, got {first_line(repr(label))}")
