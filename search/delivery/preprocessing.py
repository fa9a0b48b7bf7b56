"""Preprocessing: from an image to a network's input and the names of its outputs.

It is kept inside a model's file and in its manifest, in words and numbers that are enough to write
it again in another language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...spaces import Candidate
from ..data.dataset import Data
from ..data.decoding import PAD_GRAY
from ..data.pixels import Look

STEPS = {
    "1 decode": (
        "the first frame; a JPEG is decoded at 1/2, 1/4 or 1/8 while both sides keep 1.25 times "
        "the pixels wanted in step 5; color profiles are not applied"
    ),
    "2 colors": (
        "to 8-bit R, G, B or gray. Transparent: over white, (color * alpha + 255 * (255 - alpha)) "
        "/ 255, rounded. 16-bit gray: value / 257, rounded; 16-bit colors: the high byte. Integers "
        "of 32 bits: clipped to [0, 65535] and / 257 if any is above 255, otherwise as they are. "
        "Floats: * 255 if all are in [0, 1], as they are if all are in [0, 255], otherwise the "
        "lowest becomes 0 and the highest 255; rounded. CMYK: (255 - ink) * (255 - black) / 255. "
        "YCbCr: as in JPEG. LAB: to sRGB"
    ),
    "3 channels": (
        "if one is wanted, gray = (19595 * R + 38470 * G + 7471 * B + 32768) >> 16; if three are, "
        "gray is repeated"
    ),
    "4 orientation": "turned upright as EXIF tag 274 says",
    "5 fit": (
        "crop: the largest square at the center, at fractions of a pixel, becomes size x size. "
        "squash: the whole image becomes size x size. pad: the longer side becomes size, the other "
        "floor(size * shorter / longer + 0.5) but at least 1, on size x size pixels of pad_value, "
        "with floor((size - side) / 2) before it"
    ),
    "6 resample": (
        "in step 5: bicubic with a = -0.5, its kernel stretched by old / new size where that is "
        "above 1, weights of the pixels inside of the image normalized to a sum of 1; first "
        "across, then down, rounded and clipped to [0, 255] after each"
    ),
    "7 tensor": (
        "float32 (batch, channels, size, size), in files of TFLite and ExecuTorch (batch, size, "
        "size, channels), in those of ncnn one image (channels, size, size); channels R, G, B; "
        "value / 255, then - mean, then / std, of each channel"
    ),
    "8 network": (
        "if input_size is not size: bilinear to input_size, with a kernel stretched in the same way"
    ),
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From an image to the input of a network, and the names of its outputs.

    Attributes:
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
        class_names: one for each output.
        look: of images before that; None in the manifests of version 0.2 and earlier.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    look: Look | None = None

    @classmethod
    def of(cls, data: Data) -> Preprocessing:
        """Preprocessing of a data set."""
        return cls(data.mean, data.std, data.class_names, data.look)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the steps in words; `from_dict` reads it."""
        about: dict[str, Any] = {
            "mean": self.mean,
            "std": self.std,
            "class_names": self.class_names,
        }
        if self.look:
            about["image"] = {
                "size": self.look.size,
                "channels": self.look.channels,
                "fit": self.look.fit,
                "pad_value": PAD_GRAY,
                "steps": STEPS,
            }
        return about

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Inverse of `to_dict`.

        Raises:
            KeyError: a value is missing.
        """
        image = data.get("image")
        return cls(
            tuple(data["mean"]),
            tuple(data["std"]),
            tuple(data["class_names"]),
            Look(image["size"], image["channels"], image["fit"]) if image else None,
        )


def metadata(candidate: Candidate, preprocessing: Preprocessing | None) -> dict[str, Any]:
    """Metadata inside a model's file, by name."""
    about = {"key": candidate.key, "input_size": candidate.architecture.input_size}
    return about | (preprocessing.to_dict() if preprocessing else {})
