"""Data sets and transforms of timm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.data.transforms_factory import create_transform
from torch import Tensor

from ...spaces.errors import RunError

Transform = Callable[[Image.Image], Tensor]
BROKEN = (OSError, SyntaxError, ValueError)  # what Pillow raises on a damaged file


def reason(error: Exception) -> str:
    """Reason why a file could not be read, without Pillow's remark on its reader."""
    return str(error).partition(" <")[0]


class Source:
    """Labeled images of a timm data set, by index where it has one.

    Args:
        name: timm's name of a reader, "" for class folders, "torch/cifar10", "hfds/...".
        root: its folder.
        split: which part of it.

    Raises:
        RunError: no such reader, folder or split, or one of its packages is not installed.
    """

    def __init__(self, name: str, root: str | Path, split: str) -> None:
        self.name = f"{name or 'folder'} {root}".strip()
        try:
            self._dataset: Any = create_dataset(
                name, str(root), split=split, download=False, input_img_mode=""
            )
        except (OSError, RuntimeError, ValueError, ImportError, AssertionError) as error:
            raise RunError(f"data: {self.name}, split {split!r}: {error}") from error
        self._reader: Any = getattr(self._dataset, "reader", None)

    @property
    def indexed(self) -> bool:
        """Whether images can be asked for one by one."""
        return hasattr(type(self._dataset), "__getitem__")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the order of the labels; empty where the data set does not name them."""
        for holder in (self._reader, self._dataset):
            if numbers := getattr(holder, "class_to_idx", None):
                return tuple(sorted(numbers, key=numbers.__getitem__))
        return ()

    def labels(self) -> list[int] | None:
        """Labels of all images, none decoded; None where the data set does not list them."""
        if samples := getattr(self._reader, "samples", None):
            return [label for _, label in samples]
        targets = getattr(self._dataset, "targets", None)
        return None if targets is None else [int(label) for label in targets]

    def __len__(self) -> int:
        return len(self._dataset)

    def name_of(self, index: int) -> str:
        """Name of an image, for messages."""
        if getattr(self._reader, "samples", None):
            return str(self._reader.samples[index][0])
        return f"image {index} of {self.name}"

    def read(self, index: int) -> tuple[Image.Image, int]:
        """An image and its label.

        Raises:
            OSError: or another of `BROKEN`: the image is damaged.
        """
        held, label = (self._dataset if self._reader is None else self._reader)[index]
        if isinstance(held, Image.Image):
            return held, int(label)
        with held as file, Image.open(file) as image:
            image.load()
            return image, int(label)

    def items(self, index: Sequence[int]) -> Iterator[tuple[Image.Image, int] | str]:
        """Images with their labels, or the reason why one is broken; a stream gives all."""
        if not self.indexed:
            yield from self._dataset
            return
        for i in index:
            try:
                yield self.read(i)
            except BROKEN as error:
                yield reason(error)

    @property
    def gray(self) -> bool:
        """Whether the first image that can be read has one channel."""
        image = next(item[0] for item in self.items(range(len(self))) if not isinstance(item, str))
        return image.mode in ("1", "L", "I", "I;16", "F")


def eval_transform(size: int, mode: str) -> Transform:
    """PIL image -> uint8 tensor (C, size, size): shorter side resized, center cropped."""
    made: Any = create_transform(size, interpolation="bicubic", crop_pct=1.0, normalize=False)
    return lambda image: made(image.convert(mode))


def train_transform(size: int, mode: str, flip: bool) -> Transform:
    """PIL image -> uint8 tensor (C, size, size): timm's random crop, and flip if it may."""
    made: Any = create_transform(
        size,
        is_training=True,
        scale=(0.35, 1.0),
        hflip=0.5 if flip else 0.0,
        color_jitter=0.2,  # pyright: ignore[reportArgumentType]
        interpolation="bicubic",
        normalize=False,
    )
    return lambda image: made(image.convert(mode))
