"""Pixels in every orientation and fit, and what is chosen for a set of images."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vitpareto.search.data import decoding
from vitpareto.search.data.pixels import (
    FITS,
    Look,
    choose_channels,
    choose_fit,
    open_image,
    to_pixels,
    upright_size,
)

from .coding import COLOR, encoded, noise, read


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def weights(n: int, start: float, stop: float, size: int) -> np.ndarray:
    """Antialiased weights of `n` pixels for each of `size`: (size, n)."""
    scale = (stop - start) / size
    stretch = max(scale, 1)
    centers = start + (np.arange(size)[:, None] + 0.5) * scale
    found = cubic((np.arange(n) + 0.5 - centers) / stretch)
    return found / found.sum(1, keepdims=True)


def reference(values: np.ndarray, look: Look) -> np.ndarray:
    """An upright image (H, W) as a square, in float."""
    height, width = values.shape
    long, short = max(height, width), min(height, width)
    down, across, size = (0, height), (0, width), (look.size, look.size)
    if look.fit == "crop":
        down = (height / 2 - short / 2, height / 2 + short / 2)
        across = (width / 2 - short / 2, width / 2 + short / 2)
    if look.fit == "pad":
        size = tuple(max(1, math.floor(look.size * n / long + 0.5)) for n in values.shape)
    between = values @ weights(width, *across, size[1]).T
    inner = weights(height, *down, size[0]) @ between.round().clip(0, 255)
    canvas = np.full((look.size, look.size), 128.0)
    top, left = ((look.size - n) // 2 for n in size)
    canvas[top : top + size[0], left : left + size[1]] = inner
    return canvas.round().clip(0, 255)


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """How an upright image (H, W, ...) lies in a file of an orientation, by the EXIF standard."""
    if orientation >= 5:  # rows of the file are columns
        upright = upright.swapaxes(0, 1)
        down, across = orientation in (6, 7), orientation in (7, 8)
    else:
        down, across = orientation in (3, 4), orientation in (2, 3)
    return upright[:: -1 if down else 1, :: -1 if across else 1]


LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
sides = st.integers(1, 70)


@settings(max_examples=150, deadline=None)
@given(
    height=sides,
    width=sides,
    orientation=st.integers(1, 8),
    fit=st.sampled_from(FITS),
    size=st.integers(1, 40),
    form=st.sampled_from(sorted(LOSSLESS)),
)
def test_every_orientation_and_fit(
    height: int, width: int, orientation: int, fit: str, size: int, form: str
) -> None:
    values = noise(height, width, 3, seed=height * 71 + width)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored(values, orientation)))
    content = encoded(image, form, exif=exif, **LOSSLESS[form])
    opened = open_image(io.BytesIO(content))
    assert upright_size(opened) == (width, height)
    look = Look(size, 3, fit)
    found = to_pixels(opened, look)
    wanted = np.stack([reference(values[..., c].astype(float), look) for c in range(3)])
    assert np.abs(found - wanted).max() <= 2  # Pillow's weights are rounded, twice
    if fit != "squash":
        assert (found == to_pixels(Image.fromarray(values), look)).all()


def test_crop_is_that_of_pillow() -> None:
    """Whose one call takes another order of rounding for tall images in Pillow 13."""
    values = noise(48, 61, 3)
    wanted = ImageOps.fit(Image.fromarray(values), (16, 16), Image.Resampling.BICUBIC)
    assert (
        to_pixels(Image.fromarray(values), COLOR) == np.asarray(wanted).transpose(2, 0, 1)
    ).all()


MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
MORE_MODES = (*MODES, "LAB", "I", "F", "I;16", "I;16B", "I;16L")


@settings(max_examples=200, deadline=None)
@given(
    mode=st.sampled_from(MORE_MODES),
    size=st.tuples(sides, sides),
    look=st.builds(Look, st.integers(1, 24), st.sampled_from((1, 3)), st.sampled_from(FITS)),
    seed=st.integers(0, 9),
)
def test_every_mode_at_every_size(mode: str, size: tuple[int, int], look: Look, seed: int) -> None:
    """Fits commute with colors: what is shown is the fit of the pixels at their own size."""
    image = Image.new(mode, size)
    count = len(image.tobytes())
    image.frombytes(noise(count, seed=seed).tobytes() if mode != "F" else bytes(count))
    if mode in ("P", "PA"):
        image.putpalette(noise(768, seed=seed).tobytes())
    before = decoding.eight_bit(image)
    assert before.mode in ("L", "RGB") and before.size == size
    if look.channels == 1:
        before = before.convert("L")
    wanted = to_pixels(before, look)
    assert wanted.shape == (look.channels, look.size, look.size) and wanted.dtype == np.uint8
    assert wanted.flags.writeable and wanted.flags.c_contiguous
    assert (to_pixels(image, look) == wanted).all()


def test_damaged_exif_is_none() -> None:
    values = noise(16, 16, 3)
    for exif in (
        b"Exif\0\0" + bytes(range(200)),
        b"Exif\0\0MM",
        b"x",
        b"Exif\0\0II*\0" + b"\xff" * 40,
    ):
        content = encoded(Image.fromarray(values), "PNG", exif=exif)
        assert (read(content, COLOR) == values.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([(64, 64)] * 9, "crop"),
        ([(64, 64)] * 30 + [(100, 50)], "crop"),  # few lose much
        ([(400, 300)] * 9, "squash"),  # all are bent alike
        ([(300, 400)] * 5 + [(400, 300)] * 5, "pad"),
        ([(1000, 100)] * 50 + [(100, 1000)], "squash"),
    ],
)
def test_the_fit_that_loses_least(sizes: list[tuple[int, int]], wanted: str) -> None:
    fit, words = choose_fit(sizes)
    assert fit == wanted and words.startswith(f"fit: {wanted}; ") and "\n" not in words


def test_the_figures_of_a_fit() -> None:
    _, words = choose_fit([(200, 100), (100, 100), (100, 100)])
    assert "crop would cut off 16.7%" in words and "bend it by 16.7%" in words


def test_channels() -> None:
    gray = np.repeat(noise(1, 16, 16), 3, 0)
    near = (gray + np.array([0, 3, -3])[:, None, None]).clip(0, 255).astype(np.uint8)
    color = noise(3, 16, 16)
    assert choose_channels([gray] * 50 + [near] * 50)[0] == 1
    assert choose_channels([gray] * 99 + [color])[0] == 3
    assert choose_channels([gray] * 150 + [color])[0] == 1  # one in a hundred and fifty
    assert choose_channels([gray, *[color] * 9]) == (
        3,
        "channels: 3, color; 9 of 10 images sampled show color",
    )
