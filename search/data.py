"""Data: labelled images in four splits, of which the last can be read only once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spaces.errors import RunError, UnknownNameError
from .config import DataConfig
from .files import read_json, write_json

SPLITS = ("train", "search", "validation", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """Normalised images (N, C, S, S) in float32 and their labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Data:
    """A data set whose splits keep apart what must not meet.

    Attributes:
        name: of the data set.
        class_names: one a class, in the order of the labels.
        mean: per channel, of the train split with pixels in [0, 1].
        std: per channel, likewise.

    Args:
        name: of the data set.
        images: pixels in [0, 1], (N, C, S, S).
        labels: class indices (N,).
        class_names: one a class.
        parts: split -> indices of its images.
        seal: file that keeps when the test split was read; `None` keeps it in memory only.
    """

    def __init__(
        self,
        name: str,
        images: Tensor,
        labels: Tensor,
        class_names: tuple[str, ...],
        parts: Mapping[str, Tensor],
        seal: Path | None = None,
    ) -> None:
        self.name, self.class_names = name, class_names
        train = images[parts["train"]]
        self.mean = tuple(train.mean((0, 2, 3)).tolist())
        self.std = tuple(train.std((0, 2, 3)).clamp_min(1e-3).tolist())
        normalised = (images - _channels(self.mean)) / _channels(self.std)
        self._splits = {
            part: Split(normalised[index], labels[index]) for part, index in parts.items()
        }
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

    def split(self, name: str, force: bool = False) -> Split:
        """A split by name: train, search, validation or test.

        Args:
            name: of the split.
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
        config: which one, and the shares of its splits.
        input_size: side of the images in pixels.
        seal: see `Data`.

    Raises:
        RunError: fewer images than the splits need.
    """
    images, labels, names = LOADERS[config.name]()
    images = resized(images, input_size)
    shares = {part: getattr(config, part) for part in SPLITS[1:]}
    parts = split_by_class(labels, shares, config.seed)
    return Data(config.name, images, labels, names, parts, seal)


def split_by_class(labels: Tensor, shares: Mapping[str, float], seed: int) -> dict[str, Tensor]:
    """Indices of every split, the same shares of each class; "train" is what is left.

    Raises:
        RunError: a split would lack a class.
    """
    if sum(shares.values()) >= 1:
        raise RunError(f"data: no image is left to train on, the shares are {dict(shares)!r}")
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {part: [] for part in ("train", *shares)}
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        total = len(members)
        for part, share in shares.items():
            n = math.floor(total * share)
            found[part].append(members[:n])
            members = members[n:]
        found["train"].append(members)
        for part, chosen in found.items():
            if not len(chosen[-1]):
                raise RunError(f"data: class {label} has too few images for the {part} split")
    return {part: torch.cat(chosen).sort().values for part, chosen in found.items()}


def resized(images: Tensor, size: int) -> Tensor:
    """Images at another size, as a data set or a candidate needs them: (B, C, S, S)."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _load_digits() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """1,797 scans of handwritten digits, 8x8 in 17 levels of grey (Alpaydin and Kaynak, UCI)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16
    return images, torch.from_numpy(labels).long(), tuple(str(digit) for digit in range(10))


LOADERS: dict[str, Callable[[], tuple[Tensor, Tensor, tuple[str, ...]]]] = {"digits": _load_digits}


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]
