"""Data: labeled images in four splits, of which the last can be read only once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...spaces.errors import RunError, UnknownNameError
from ..store.atomic_files import read_json, write_json
from .augment import Kept, Norm, Views
from .pixels import Look
from .rows import Rows
from .splits import SPLITS

SAMPLE_MB = 256  # of float32 train images at most, where a sample of them does
NORM_MB = 64  # likewise, for mean and deviation


@dataclass(frozen=True, slots=True)
class Split:
    """Labeled images, normalized where they are looked at: all at once may not fit into memory.

    Attributes:
        rows: pixels, uint8, or images (N, C, S, S) in float32 where there is no `norm`.
        labels: (N,).
        norm: of the pixels.
    """

    rows: Rows
    labels: Tensor
    norm: Norm | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All of them, normalized, (N, C, S, S) in float32."""
        return self._normalized(torch.arange(len(self)))

    def batches(self, batch: int, size: int = 0) -> Iterator[Tensor]:
        """All of them in order, normalized (B, C, S, S), at another size where one is given."""
        for index in torch.arange(len(self)).split(batch):
            images = self._normalized(index)
            yield resized(images, size) if size else images

    def at(self, index: Tensor) -> Split:
        """Those of these numbers (M,)."""
        return Split(self.rows[index], self.labels[index], self.norm)

    def some(self, count: int) -> Split:
        """At most so many of the images, mixed, as a split of folders is sorted by class.

        They are the same ones each time, and the first of those that a larger count gives.
        """
        return self.at(mixed(len(self), count))

    def _normalized(self, index: Tensor) -> Tensor:
        return self.norm(self.rows[index]) if self.norm else self.rows[index]


@dataclass(frozen=True, slots=True)
class Images:
    """Images and labels by split.

    Attributes:
        class_names: one a class, in the order of the labels.
        look: how networks see the images.
        rows: pixels by split.
        labels: (N,) by split.
    """

    class_names: tuple[str, ...]
    look: Look
    rows: Mapping[str, Rows]
    labels: Mapping[str, Tensor]


class Data:
    """A data set in splits that share no image.

    Attributes:
        name: of the data set.
        class_names: one a class, in the order of the labels.
        look: how its images are shown.
        mean: per channel, of the train split with pixels in [0, 1], or what `norm` says.
        std: per channel, likewise.
        train_labels: of all train images (N,), in the order of `views`.

    Args:
        name: of the data set.
        images: in their splits.
        flip: whether left and right may change sides in a view.
        seal: file that records when the test split was read; `None` keeps it in memory only.
        norm: of pixels; that of the train split by default.
    """

    def __init__(
        self,
        name: str,
        images: Images,
        flip: bool = False,
        seal: Path | None = None,
        norm: Norm | None = None,
    ) -> None:
        self.name, self.class_names, self.look = name, images.class_names, images.look
        self.train_labels = images.labels["train"]
        self._images = images
        self._norm = norm or Norm.of(images.rows["train"][self._few(NORM_MB)])
        self.mean, self.std = self._norm.mean, self._norm.std
        self._views = Kept(images.rows["train"], self._norm, flip)
        self._made: dict[str, Split] = {}
        self._seal = seal
        self._readings: list[dict[str, str | bool]] = (
            read_json(seal) if seal and seal.is_file() else []
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def in_chans(self) -> int:
        """Channels of an image."""
        return self.look.channels

    @property
    def input_size(self) -> int:
        """Side of an image in pixels."""
        return self.look.size

    def views(self) -> Views:
        """Augmented train images."""
        return self._views

    @property
    def view_mb(self) -> float:
        """Memory of one view of all train images."""
        look = self.look
        return 4 * len(self.train_labels) * look.channels * look.size**2 / 2**20

    def split(self, name: str, force: bool = False) -> Split:
        """A split by name: train, search, validation or test.

        Args:
            name: of the split; a train split that takes much memory gives a sample.
            force: read the test split although it has been read; the seal records that.

        Raises:
            UnknownNameError: no such split.
            RunError: the test split is read a second time.
        """
        if name not in SPLITS:
            raise UnknownNameError("split", name, SPLITS)
        if name == "test":
            self._break_seal(force)
        if name not in self._made:
            whole = Split(self._images.rows[name], self._images.labels[name], self._norm)
            self._made[name] = whole.at(self._few(SAMPLE_MB)) if name == "train" else whole
        return self._made[name]

    def count(self, name: str) -> int:
        """Number of images of a split, which is not read for that."""
        return len(self._images.labels[name])

    def _few(self, megabytes: int) -> Tensor:
        """Numbers of train images that stand for all where all would take more memory."""
        total, look = len(self.train_labels), self.look
        most = max(1, megabytes * 2**20 // (4 * look.channels * look.size**2))
        if total <= most:
            return torch.arange(total)
        return mixed(total, most).sort().values

    def _break_seal(self, force: bool) -> None:
        if self._readings and not force:
            raise RunError(
                f"the test split of {self.name} was already read at {self._readings[0]['at']}: "
                "a second reading turns it into a validation split"
            )
        self._readings.append({"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "forced": force})
        if self._seal:
            write_json(self._seal, self._readings)


def mixed(total: int, count: int) -> Tensor:
    """Numbers of at most `count` of `total` images, mixed.

    Equal steps would meet the same class again and again where rows of classes take turns.
    """
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count]


def resized(images: Tensor, size: int) -> Tensor:
    """Images at another size, as a data set or a candidate needs them: (B, C, S, S)."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)
