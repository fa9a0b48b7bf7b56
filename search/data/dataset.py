"""Data: labeled images in four splits, of which the last can be read only once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from ...spaces.errors import RunError, UnknownNameError
from ..config import DataConfig
from ..store.atomic_files import read_json, write_json
from .augment import Kept, Norm, Views
from .digits import read_digits
from .pixels import Look
from .splits import Images, split_by_class

SPLITS = ("train", "search", "validation", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """Normalized images (N, C, S, S) in float32 and their labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Data:
    """A data set in splits that share no image.

    Attributes:
        name: of the data set.
        class_names: one a class, in the order of the labels.
        mean: per channel, of the train split with pixels in [0, 1].
        std: per channel, likewise.
        look: how images are shown.
        train_labels: of all train images (N,), in the order of `views`.

    Args:
        name: of the data set.
        images: in their splits.
        flip: whether left and right may change sides in a view.
        seal: file that records when the test split was read; `None` keeps it in memory only.
    """

    def __init__(
        self, name: str, images: Images, flip: bool = False, seal: Path | None = None
    ) -> None:
        self.name, self.class_names = name, images.class_names
        norm = Norm.of(images.pixels["train"])
        self.mean, self.std = norm.mean, norm.std
        self.train_labels = images.labels["train"]
        self._splits = {
            part: Split(norm(pixels), images.labels[part][: len(pixels)])
            for part, pixels in images.pixels.items()
        }
        self._views = images.stream or Kept(self._splits["train"].images, flip)
        self.look = Look(self.input_size, self.in_chans, "squash" if name == "digits" else "crop")
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
        return self._splits["train"].images.shape[1]

    @property
    def input_size(self) -> int:
        """Side of an image in pixels."""
        return self._splits["train"].images.shape[-1]

    def views(self) -> Views:
        """Augmented train images."""
        return self._views

    def split(self, name: str, force: bool = False) -> Split:
        """A split by name: train, search, validation or test.

        Args:
            name: of the split; a train split that is not in memory gives a sample.
            force: read the test split although it has been read; the seal records that.

        Raises:
            UnknownNameError: no such split.
            RunError: the test split is read a second time.
        """
        if name not in self._splits:
            raise UnknownNameError("split", name, SPLITS)
        if name == "test":
            self._break_seal(force)
        return self._splits[name]

    def _break_seal(self, force: bool) -> None:
        if self._readings and not force:
            raise RunError(
                f"the test split of {self.name} was already read at {self._readings[0]['at']}: "
                "a second reading turns it into a validation split"
            )
        self._readings.append({"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "forced": force})
        if self._seal:
            write_json(self._seal, self._readings)


def load_data(config: DataConfig, input_size: int, seal: Path | None = None) -> Data:
    """The data set of a run, at the largest size that its space uses.

    Args:
        config: name of the data set, and the shares of its splits.
        input_size: side of the images in pixels.
        seal: see `Data`.

    Raises:
        RunError: a source that cannot be read, or fewer images than the splits need.
    """
    # Frozen models are hashable, which their types do not say.
    images = read_images(config, input_size)  # pyright: ignore[reportArgumentType]
    return Data(config.label, images, config.flip, seal)


@lru_cache(maxsize=1)
def read_images(config: DataConfig, size: int) -> Images:
    """The images of a run.

    Args:
        config: name of the data set, and the shares of its splits.
        size: side in pixels.

    Raises:
        RunError: a source that cannot be read, or fewer images than the splits need.
    """
    if config.name != "digits":
        from .image_sources import read_source  # timm takes a second to load

        return read_source(config, size)
    pixels, labels = read_digits(size)
    parts = split_by_class(labels, config.shares, config.seed)
    names = tuple(str(digit) for digit in range(10))
    return Images(
        names,
        {part: pixels[index] for part, index in parts.items()},
        {part: labels[index] for part, index in parts.items()},
    )


def resized(images: Tensor, size: int) -> Tensor:
    """Images at another size, as a data set or a candidate needs them: (B, C, S, S)."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)
