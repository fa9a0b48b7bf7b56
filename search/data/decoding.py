"""Decoding: an image file as pixels, with Pillow and numpy alone.

This file is copied into the program that is delivered with a model, so that a network sees there
what it saw in training.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import math
import os
import stat
import threading
import warnings
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, features

Pixels = NDArray[np.uint8]

MAX_PIXELS = 200_000_000
PIECE = 1 << 20  # pixels whose values are scaled at once
DRAFT = 1.25  # of the wanted size, which a JPEG has when it is decoded, at least
PAD_GRAY = 128  # of a canvas that an image does not fill
TURNS = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112
CLEAR_FACTORS = {"L;2": 85, "L;4": 17}  # by which Pillow makes 8 bits of gray

# EPS starts another program, IPTC opens whatever it holds, the others have no decoder.
NOT_DECODED = ("EPS", "IPTC", "MPEG", "BUFR", "GRIB", "HDF5", "WMF")
CODECS = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp"}
HEIF_SUFFIXES = (".heic", ".heics", ".heif", ".heifs", ".hif")
AVIF_SUFFIXES = (".avif", ".avifs")

DAMAGED, EMPTY, NO_IMAGE = "damaged", "empty file", "not an image"
NO_FILE = "not a file"
TOO_LARGE = f"more than {MAX_PIXELS // 1_000_000} million pixels"
NOT_FINITE = "NaN or infinite values"
NO_MEMORY = "too little memory"
NEEDS_HEIF = "needs pillow-heif (pip install pillow-heif)"
NEEDS_AVIF = "needs a Pillow with AVIF (pip install -U pillow)"


class Unreadable(Exception):
    """An image that is not read.

    Attributes:
        reason: short, the same for all images of a kind.
        detail: what Pillow said.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return self.reason


_lock, _undo = threading.Lock(), contextlib.ExitStack()
_readers = 0


@contextlib.contextmanager
def pixel_limits() -> Generator[None]:
    """Give Pillow our limit of pixels, and no warnings, until the last reader leaves.

    Both are settings of the process. The readers of single images come here by themselves; a pass
    over many enters once, so that the settings do not change with every image.
    """
    global _readers
    with _lock:
        if not _readers:
            _undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            _undo.enter_context(warnings.catch_warnings())
            Image.MAX_IMAGE_PIXELS = MAX_PIXELS
            warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers:
                _undo.close()


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded here, the usual ones first."""
    Image.preinit()
    Image.init()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    lacking = {name for name, codec in CODECS.items() if not features.check(codec)}
    return tuple(f for f in Image.ID if f in Image.OPEN and f not in {*NOT_DECODED, *lacking})


@cache
def suffixes() -> frozenset[str]:
    """Suffixes of the files that are decoded here, in lower case with their dot."""
    known = {*formats(), "MPO"}  # which the reader of JPEG reads
    listed = Image.registered_extensions().items()
    # Some releases of Pillow add the suffix of a SPIDER file that they write, which may be none.
    return frozenset(suffix.lower() for suffix, form in listed if suffix and form in known)


@cache
def lacking_suffixes() -> dict[str, str]:
    """Suffixes of images that are not decoded here -> what that needs."""
    known = dict.fromkeys(HEIF_SUFFIXES, NEEDS_HEIF) | dict.fromkeys(AVIF_SUFFIXES, NEEDS_AVIF)
    return {suffix: needs for suffix, needs in known.items() if suffix not in suffixes()}


def open_image(file: Path | BinaryIO) -> Image.Image:
    """Open an image and read its header; whoever opens it closes it, or gives it to `to_pixels`.

    Raises:
        Unreadable: no image, or one with too many pixels.
    """
    try:
        if isinstance(file, Path):
            found = file.stat()
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(NO_FILE)
            if not found.st_size:
                raise Unreadable(EMPTY)
        with pixel_limits():
            image = Image.open(file, formats=formats())
    except Unreadable:
        raise
    except Image.UnidentifiedImageError as error:
        raise Unreadable(_unidentified(file), str(error)) from error
    except Exception as error:
        raise Unreadable(_reason(error), str(error)) from error
    scale_clear(image)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise Unreadable(TOO_LARGE, f"{image.width} x {image.height}")
    return image


def scale_clear(image: ImageFile.ImageFile) -> None:
    """Give the transparent color of an opened PNG as many bits as its pixels will have.

    Pillow makes 8 bits of the pixels, and compares them with the color as the file has it. Of 16
    bits the lower ones are lost on both sides.
    """
    clear: Any = image.info.get("transparency")
    form = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
    if clear is None:
        return
    if form in CLEAR_FACTORS:
        image.info["transparency"] = clear * CLEAR_FACTORS[form]
    elif form == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def to_pixels(image: Image.Image, size: int, channels: int, fit: str) -> Pixels:
    """Decode an image, turn it upright, and fit it into a square: (channels, size, size).

    Args:
        image: from `open_image` or elsewhere; it is closed, and a JPEG may be left at a smaller
            size.
        size: side in pixels.
        channels: 1 for gray, 3 for red, green and blue.
        fit: "crop" takes the largest square at the center, "pad" puts the whole image on a gray
            canvas, "squash" changes the aspect ratio.

    Raises:
        Unreadable: damaged, or too many pixels.
    """
    try:
        with pixel_limits(), image:
            width, height = inner_size(image.size, size) if fit == "pad" else (size, size)
            # Both sides stay at least as large.
            image.draft(None, (round(DRAFT * width), round(DRAFT * height)))
            image.load()
            if image.width * image.height > MAX_PIXELS:  # of an icon the header does not tell
                raise Unreadable(TOO_LARGE, f"{image.width} x {image.height}")
            shown = eight_bit(image)
            if channels == 1:
                shown = shown.convert("L")
            turn = TURNS.get(orientation(image))
            shown = fitted(shown if turn is None else shown.transpose(turn), size, fit)
    except Unreadable:
        raise
    except Exception as error:  # Pillow's readers raise nearly everything on damaged files
        raise Unreadable(_reason(error), str(error)) from error
    pixels = np.atleast_3d(np.asarray(shown)).transpose(2, 0, 1)
    return np.array(np.broadcast_to(pixels, (channels, size, size)), order="C")


def orientation(image: Image.Image) -> int:
    """EXIF orientation, as far as what was read of the file tells; 1 is upright."""
    try:
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))
    except Exception:  # damaged EXIF is none
        return 1


def eight_bit(image: Image.Image) -> Image.Image:
    """A loaded image of any mode in mode L or RGB, over white where it is transparent.

    - I;16: divided by 257.
    - I: if the file has 16 bits or any value is above 255, divided by 257, where values above
      65535 are white; otherwise as it is. Values below 0 are black.
    - F: times 255 if all values are in [0, 1], as it is if all are in [0, 255], otherwise the
      lowest value is black and the highest white.

    Raises:
        Unreadable: not a number, or infinite.
    """
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values = np.asarray(image)
        gray = from_float(values) if mode == "F" else from_integer(values, image.format)
        if mode != "F" and isinstance(clear := image.info.get("transparency"), int):
            gray[values == clear] = 255
        return Image.fromarray(gray)
    if mode in ("La", "RGBa"):
        image = image.convert(mode[:-1] + "A")
    alpha = ("LA", "PA", "RGBA")
    if image.mode in alpha or (mode in ("1", "L", "P", "RGB") and image.has_transparency_data):
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba)
        return white if image.mode not in ("1", "L", "LA") else white.convert("L")
    return image.convert("L" if mode in ("1", "L") else "RGB")


def from_integer(values: NDArray[Any], form: str | None) -> Pixels:
    """Gray of integers, see `eight_bit`."""
    # These two formats have no more than 16 bits, but mode I in some releases of Pillow.
    sixteen = values.dtype.itemsize == 2 or form in ("PNG", "PPM") or values.max() > 255
    most = 65535 if sixteen else 255
    return in_pieces(values, lambda v: v.clip(0, most) * (255 / most))


def from_float(values: NDArray[Any]) -> Pixels:
    """Gray of floats, see `eight_bit`."""
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):  # one NaN makes both NaN
        raise Unreadable(NOT_FINITE)
    if low >= 0 and high <= 1:
        low, high = 0, 1
    elif low >= 0 and high <= 255:
        low, high = 0, 255
    factor = 255 / ((high - low) or 1)
    return in_pieces(values, lambda v: (v.astype(np.float64) - low) * factor)


def in_pieces(values: NDArray[Any], shade: Callable[[NDArray[Any]], NDArray[Any]]) -> Pixels:
    """Values of a function from 0 to 255, rounded; a large image takes little more memory."""
    flat, gray = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, flat.size, PIECE):
        piece = slice(start, start + PIECE)
        gray[piece] = np.floor(shade(flat[piece]) + 0.5)
    return gray.reshape(values.shape)


def inner_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height of an image whose longer side is scaled to `side`, at least 1."""
    long = max(1, *size)
    width, height = (max(1, (2 * side * n + long) // (2 * long)) for n in size)
    return width, height


def fitted(image: Image.Image, size: int, fit: str) -> Image.Image:
    """An upright image of mode L or RGB as a square; the ways are in `to_pixels`."""
    left, top, right, bottom = 0.0, 0.0, float(image.width), float(image.height)
    if fit == "pad":
        width, height = inner_size(image.size, size)
        gray = (PAD_GRAY,) * len(image.getbands())
        canvas = Image.new(image.mode, (size, size), gray)
        inner = resampled(image, width, height, (left, top, right, bottom))
        canvas.paste(inner, ((size - width) // 2, (size - height) // 2))
        return canvas
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        right, bottom = left + side, top + side
    return resampled(image, size, size, (left, top, right, bottom))


def resampled(
    image: Image.Image, width: int, height: int, box: tuple[float, float, float, float]
) -> Image.Image:
    """A box of an image at another size, bicubic, first across, then down.

    In one call, Pillow 13 takes the cheaper way first where Pillow 12 went across: the pixels of
    tall images would depend on the release.
    """
    bicubic = Image.Resampling.BICUBIC
    left, top, right, bottom = box
    across = image.resize((width, image.height), bicubic, (left, 0, right, image.height))
    return across.resize((width, height), bicubic, (0, top, width, bottom))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return TOO_LARGE
    if isinstance(error, MemoryError):
        return NO_MEMORY
    # Damaged files send readers to places that do not exist, which is EINVAL.
    if isinstance(error, OSError) and error.errno and error.errno != errno.EINVAL:
        return os.strerror(error.errno).lower()
    return DAMAGED


def _unidentified(file: Path | BinaryIO) -> str:
    """Reason why no reader of Pillow takes a file."""
    try:
        if isinstance(file, Path):
            with file.open("rb") as opened:
                head = opened.read(16)
        else:
            file.seek(0)
            head = file.read(16)
    except (OSError, ValueError):
        return NO_IMAGE
    if not head:
        return EMPTY
    if head[4:8] == b"ftyp":  # both are boxes, and tell their kind next
        if head[8:11] == b"avi":
            return DAMAGED if "AVIF" in formats() else NEEDS_AVIF
        if head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
            return DAMAGED if "HEIF" in formats() else NEEDS_HEIF
    return DAMAGED if any(_begins(form, head) for form in formats()) else NO_IMAGE


def _begins(form: str, head: bytes) -> bool:
    """Whether a file begins as those of a format."""
    accept = Image.OPEN[form][1]
    try:
        return accept is not None and accept(head) is True
    except Exception:  # it is too short
        return False
