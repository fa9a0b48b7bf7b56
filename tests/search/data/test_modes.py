"""Pixels of every mode, against the arithmetic of its definition."""

import io
import struct
import zlib
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from vitpareto.search.data.decoding import eight_bit
from vitpareto.search.data.pixels import (
    Look,
    UnreadableImage,
    open_image,
    to_pixels,
)

from .coding import COLOR, encoded, noise, read


def same_size(image: Image.Image, channels: int) -> np.ndarray:
    """Pixels of a square image at its own size, which nothing resamples: (S, S, C)."""
    return to_pixels(image, Look(image.width, channels, "crop")).transpose(1, 2, 0)


def gray_of(rgb: np.ndarray) -> np.ndarray:
    """Luma of ITU-R 601, as Pillow rounds it."""
    return (rgb.astype(int) @ (19595, 38470, 7471) + 0x8000) >> 16


def over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    color, alpha = color.astype(int), alpha.astype(int)
    return np.floor((color * alpha + 255 * (255 - alpha)) / 255 + 0.5)


def rgb_and_gray(image: Image.Image, rgb: np.ndarray) -> None:
    assert (same_size(image.copy(), 3) == rgb).all()
    assert (same_size(image, 1)[..., 0] == gray_of(rgb)).all()


def gray_only(image: Image.Image, gray: np.ndarray) -> None:
    rgb_and_gray(image, np.repeat(gray[..., None], 3, 2))


def test_rgb_and_l() -> None:
    values = noise(16, 16, 3)
    rgb_and_gray(Image.fromarray(values), values)
    gray_only(Image.fromarray(values[..., 0]), values[..., 0])


def test_one_bit() -> None:
    values = noise(16, 16) > 127
    gray_only(Image.fromarray(values), values * 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_over_white(mode: str) -> None:
    values = noise(16, 16, len(mode))
    values[:4, :, -1], values[4:8, :, -1] = 0, 255
    image = Image.fromarray(values)
    assert image.mode == mode
    shown = over_white(values[..., :-1], values[..., -1:])
    rgb_and_gray(image, np.broadcast_to(shown, (16, 16, 3)))


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha(mode: str) -> None:
    values = noise(16, 16, len(mode))
    image = Image.fromarray(values)
    found = same_size(image.convert(mode), 3).astype(int)
    shown = over_white(values[..., :-1], values[..., -1:])
    # Colors were rounded when they were multiplied.
    assert (np.abs(found - shown) <= 1).all()


def test_palette() -> None:
    colors, index = noise(256, 3), noise(16, 16)
    image = Image.fromarray(index).convert("P")
    image.putdata(index.ravel().tolist())
    image.putpalette(colors.tobytes())
    rgb_and_gray(image.copy(), colors[index])
    one = image.copy()
    one.info["transparency"] = int(index[0, 0])
    shown = colors.copy()
    shown[index[0, 0]] = 255
    rgb_and_gray(one, shown[index])
    alphas = noise(256, seed=1)
    image.info["transparency"] = alphas.tobytes()
    rgb_and_gray(image, over_white(colors, alphas[:, None])[index])


def test_palette_with_alpha() -> None:
    colors, index, alpha = noise(256, 3), noise(16, 16), noise(16, 16, seed=1)
    image = Image.new("PA", (16, 16))
    image.putpalette(colors.tobytes())
    image.putdata([(int(i), int(a)) for i, a in zip(index.flat, alpha.flat, strict=True)])
    rgb_and_gray(image, over_white(colors[index], alpha[..., None]))


def test_a_color_that_stands_for_nothing_is_white() -> None:
    values = noise(16, 16, 3)
    values[3, 4] = values[5, 6] = (1, 2, 3)
    shown = values.copy()
    shown[3, 4] = shown[5, 6] = 255
    content = encoded(Image.fromarray(values), "PNG", transparency=(1, 2, 3))
    rgb_and_gray(open_image(io.BytesIO(content)), shown)
    gray = values[..., 0].copy()
    shown = np.where(gray == gray[0, 0], 255, gray)
    content = encoded(Image.fromarray(gray), "PNG", transparency=int(gray[0, 0]))
    gray_only(open_image(io.BytesIO(content)), shown)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_gray_that_stands_for_nothing_is_white_at_every_depth(bits: int) -> None:
    levels = 2**bits
    gray = np.arange(levels).repeat(8)[: 8 * levels].reshape(levels, 8)
    packed = np.packbits(
        np.unpackbits(gray.astype(np.uint8)[..., None], axis=-1)[..., -bits:].reshape(levels, -1),
        axis=1,
    )
    for clear in {0, 1, levels - 1}:
        file = png(8, levels, bits, 0, packed, struct.pack(">H", clear))
        shown = np.where(gray == clear, 255, gray * 255 // (levels - 1))
        with open_image(file) as image:
            image.load()
            assert (np.asarray(eight_bit(image)) == shown).all()


def test_color_of_16_bits_that_stands_for_nothing_is_white() -> None:
    values = noise(16, 16, 6).view(">u2").reshape(16, 16, 3).copy()
    values[3, 4] = 0x8001, 0, 0
    clear = struct.pack(">3H", 0x8001, 0, 0)
    shown = values >> 8
    shown[3, 4] = 255
    content = png(16, 16, 16, 2, values.view(np.uint8).reshape(16, -1), clear)
    rgb_and_gray(open_image(content), shown)


def png(width: int, height: int, bits: int, kind: int, rows: np.ndarray, clear: bytes) -> BinaryIO:
    """A PNG with a transparent color, by its specification (ISO/IEC 15948)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = (b"IHDR", header), (b"tRNS", clear), (b"IDAT", pixels), (b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def test_cmyk() -> None:
    values = noise(16, 16, 4)
    c, m, y, k = values.transpose(2, 0, 1).astype(float)
    image = Image.frombytes("CMYK", (16, 16), values.tobytes())
    wanted = np.stack([(255 - ink) * (255 - k) / 255 for ink in (c, m, y)], 2)
    assert np.abs(same_size(image, 3) - wanted).max() <= 1


def test_ycbcr() -> None:
    values = noise(16, 16, 3)
    y, cb, cr = values.transpose(2, 0, 1).astype(float)
    image = Image.frombytes("YCbCr", (16, 16), values.tobytes())
    red, green = y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    wanted = np.stack([red, green, y + 1.772 * (cb - 128)], 2).clip(0, 255)
    assert np.abs(same_size(image, 3) - wanted).max() <= 1.5


def test_hsv() -> None:
    import colorsys

    values = noise(16, 16, 3)
    image = Image.frombytes("HSV", (16, 16), values.tobytes())
    wanted = np.array([colorsys.hsv_to_rgb(*v) for v in values.reshape(-1, 3) / 255])
    assert np.abs(same_size(image, 3) - 255 * wanted.reshape(16, 16, 3)).max() <= 2


def test_lab() -> None:
    """CIE L*a*b* under D50, adapted to D65, as sRGB; inside its gamut."""
    rgb = noise(16, 16, 3)
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    to_xyz = [  # sRGB with white D50, by Lindbloom
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
    xyz = linear @ np.array(to_xyz).T / (0.96422, 1.0, 0.82521)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lightness = 116 * f[..., 1] - 16
    a, b = 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
    stored = np.stack([lightness * 2.55, a + 128, b + 128], 2).round().clip(0, 255)
    image = Image.frombytes(
        "LAB", (16, 16), (stored.astype(np.uint8) ^ (0, 128, 128)).astype(np.uint8).tobytes()
    )
    off = np.abs(same_size(image, 3).astype(int) - rgb)
    assert np.median(off) <= 2 and np.quantile(off, 0.95) <= 12  # Lab is rounded to 8 bits


def test_sixteen_bits() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (16, 16), dtype=np.uint16)
    values[0, :2] = 0, 65535
    wanted = np.floor(values / 257 + 0.5)
    for content in (
        encoded(Image.fromarray(values), "PNG"),
        encoded(Image.fromarray(values), "TIFF"),
        encoded(Image.fromarray(values), "PPM"),
        encoded(Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes()), "TIFF"),
    ):
        gray_only(open_image(io.BytesIO(content)), wanted)
    dark = values % 200  # in some releases of Pillow a PNG is of mode I
    gray_only(open_image(io.BytesIO(encoded(Image.fromarray(dark), "PNG"))), dark > 128)
    clear = encoded(Image.fromarray(values), "PNG", transparency=int(values[3, 4]))
    gray_only(open_image(io.BytesIO(clear)), np.where(values == values[3, 4], 255, wanted))


def test_integers() -> None:
    small = noise(16, 16).astype(np.int32)
    gray_only(Image.fromarray(small), small)
    small[0, 0] = -5
    gray_only(Image.fromarray(small), small.clip(0))
    large = np.random.default_rng(0).integers(-1000, 200_000, (16, 16), dtype=np.int32)
    gray_only(Image.fromarray(large), np.floor(large.clip(0, 65535) / 257 + 0.5))


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 255), (0, 0.2), (3, 200), (-5, 7), (0, 4000), (-3e38, 3e38)]
)
def test_floats(low: float, high: float) -> None:
    values = np.random.default_rng(0).random((16, 16)) * (high / 2 - low / 2) * 2 + low
    values = values.astype(np.float32)
    exact = values.astype(float)
    if low >= 0 and high <= 1:
        exact = exact * 255
    elif low < 0 or high > 255:
        exact = (exact - exact.min()) / (exact.max() - exact.min()) * 255
    found = same_size(Image.fromarray(values), 1)[..., 0]
    assert np.abs(found - exact).max() <= 0.5 + 1e-6


def test_floats_of_one_value_are_black() -> None:
    assert not same_size(Image.fromarray(np.full((8, 8), -7, np.float32)), 3).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_numbers_are_refused(value: float) -> None:
    values = np.zeros((8, 8), np.float32)
    values[3, 4] = value
    with pytest.raises(UnreadableImage, match="NaN or infinite values"):
        to_pixels(Image.fromarray(values), COLOR)


def test_the_first_frame_counts() -> None:
    frames = [Image.fromarray(noise(16, 16, 3, seed=i)) for i in range(3)]
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert (read(content, COLOR) == np.asarray(frames[0]).transpose(2, 0, 1)).all()
    palette = [frame.quantize(200) for frame in frames]
    content = encoded(palette[0], "GIF", save_all=True, append_images=palette[1:])
    wanted = np.asarray(palette[0].convert("RGB")).transpose(2, 0, 1)
    assert (read(content, COLOR) == wanted).all()
