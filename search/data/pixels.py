"""Pixels: one image as a network sees it, and how images of a set are best shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...spaces.errors import RunError
from . import decoding
from .decoding import lacking_suffixes, pixel_limits

__all__ = [
    "Look",
    "UnreadableImage",
    "choose_channels",
    "choose_fit",
    "image_suffixes",
    "is_colored",
    "lacking_suffixes",
    "open_image",
    "pixel_limits",
    "to_pixels",
    "upright_size",
]

FITS = ("crop", "pad", "squash")
CROP_LOSS = 0.05  # of an image, below which it is cropped
SPREAD = 16  # levels between channels from which a pixel is clearly colored
COLORED = 0.01  # share of pixels of a colored image, and of colored images of a colored set

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True, slots=True)
class Look:
    """How images are shown to networks.

    Attributes:
        size: side in pixels.
        channels: 1 for gray, 3 for red, green and blue.
        fit: into the square: "crop", "pad" or "squash", see `decoding.to_pixels`.
    """

    size: int
    channels: int
    fit: str


class UnreadableImage(RunError):
    """An image that is not read.

    Attributes:
        reason: short, the same for all images of a kind, to count by.
        detail: what Pillow said.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"image cannot be read: {self.reason}"


def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that can be read here, in lower case with their dot."""
    return decoding.suffixes()


def open_image(file: Path | BinaryIO) -> Image.Image:
    """Open an image and read its header; whoever opens it closes it, or gives it to `to_pixels`.

    Raises:
        UnreadableImage: no image, or one with too many pixels.
    """
    try:
        return decoding.open_image(file)
    except decoding.Unreadable as error:
        raise UnreadableImage(error.reason, error.detail) from error


def to_pixels(image: Image.Image, look: Look) -> NDArray[np.uint8]:
    """Decode an image, turn it upright, and fit it into a square: (C, S, S).

    Args:
        image: from `open_image` or elsewhere; it is closed, and a JPEG may be left at a smaller
            size.
        look: of the result.

    Raises:
        UnreadableImage: damaged, or too many pixels.
    """
    try:
        return decoding.to_pixels(image, look.size, look.channels, look.fit)
    except decoding.Unreadable as error:
        raise UnreadableImage(error.reason, error.detail) from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image when it is upright, from its header."""
    width, height = image.size
    # Pillow turns TIFF by itself, and says so in the size.
    sideways = image.format != "TIFF" and decoding.orientation(image) in SIDEWAYS
    return (height, width) if sideways else (width, height)


def choose_fit(sizes: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """The fit that loses least, and one sentence that says why.

    Args:
        sizes: upright width and height of a sample of images, at least one.
    """
    logs = [math.log(width / height) for width, height in sizes]
    usual = median(logs)
    cut = fmean(1 - math.exp(-abs(log)) for log in logs)
    bent = fmean(1 - math.exp(-abs(log - usual)) for log in logs)
    # Padding loses nothing but room, which is half as bad as a part of the image.
    losses = {"crop": cut, "pad": cut / 2, "squash": bent}
    fit = "crop" if cut < CROP_LOSS else min(losses, key=losses.__getitem__)
    words = (
        f"fit: {fit}; on average crop would cut off {cut:.1%} of an image, pad leave {cut:.1%} of "
        f"the square empty, and squash bend it by {bent:.1%} more or less than most"
    )
    return fit, words


def is_colored(pixels: NDArray[np.uint8]) -> bool:
    """Whether the channels of an image (3, S, S) clearly differ, whatever the mode of its file."""
    spread = pixels.max(0).astype(int) - pixels.min(0)
    return bool((spread > SPREAD).mean() >= COLORED)


def choose_channels(thumbnails: Iterable[NDArray[np.uint8]]) -> tuple[int, str]:
    """3 channels if at least 1% of images are colored, else 1, and one sentence that says why.

    Args:
        thumbnails: a sample of images (3, S, S).
    """
    colored = [is_colored(pixels) for pixels in thumbnails]
    channels = 3 if colored and fmean(colored) >= COLORED else 1
    kind = "color" if channels == 3 else "gray"
    return (
        channels,
        f"channels: {channels}, {kind}; {sum(colored)} of {len(colored)} images sampled show color",
    )
