"""Pixels are what their definition says, in every mode, orientation and fit; bad files are told."""

import io
import math
import os
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from vitpareto.search.data import decoding
from vitpareto.search.data.pixels import (
    FITS,
    Look,
    UnreadableImage,
    choose_channels,
    choose_fit,
    image_suffixes,
    lacking_suffixes,
    open_image,
    pixel_limits,
    to_pixels,
    upright_size,
)
from vitpareto.spaces.errors import RunError

COLOR, GRAY = Look(16, 3, "crop"), Look(16, 1, "crop")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def read(content: bytes, look: Look) -> np.ndarray:
    return to_pixels(open_image(io.BytesIO(content)), look)


def same_size(image: Image.Image, channels: int) -> np.ndarray:
    """Pixels of a square image at its own size, which nothing resamples: (S, S, C)."""
    return to_pixels(image, Look(image.width, channels, "crop")).transpose(1, 2, 0)


# Modes, each against the arithmetic of its definition.


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


# Orientation and fit.


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


# JPEG at a fraction of its size.


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_draft_keeps_the_wanted_pixels(fit: str, form: str) -> None:
    photo = Image.fromarray(noise(6, 8, 3)).resize((1300, 1000), Image.Resampling.BICUBIC)
    options = {"save_all": True, "append_images": [photo]} if form == "MPO" else {}
    content = encoded(photo, form, quality=95, **options)
    opened = open_image(io.BytesIO(content))
    found = to_pixels(opened, Look(32, 3, fit)).astype(int)
    assert 40 <= min(opened.size) <= (128 if fit != "pad" else 256) < 1000
    with Image.open(io.BytesIO(content)) as whole:
        wanted = to_pixels(whole.convert("RGB"), Look(32, 3, fit))
    assert np.abs(found - wanted).mean() < 1.5


def limited(code: str, *arguments: object, gigabytes: float) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose memory grows by no more than this."""
    setup = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from vitpareto.search.data.pixels import *\n"
        "from vitpareto.search.data.pixels import decoding\n"
        "decoding.formats()\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + int({gigabytes}e9),) * 2)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", setup + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def one_bit_png(width: int, height: int) -> bytes:
    """A black image that no memory here could hold, made without holding it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer, row = zlib.compressobj(1), bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row * 100) for _ in range(height // 100)) + packer.flush()
    end = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + end


def test_too_many_pixels_are_refused_undecoded(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(one_bit_png(25_000, 20_000))
    code = "open_image(Path(sys.argv[1]))"
    done = limited(code, tmp_path / "scan.png", gigabytes=0.1)
    assert done.stderr.splitlines()[-1].endswith("cannot be read: more than 200 million pixels")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_photo_takes_little_memory(tmp_path: Path) -> None:
    Image.new("RGB", (12_000, 9_000), (200, 100, 50)).save(tmp_path / "photo.jpg")
    code = "print(to_pixels(open_image(Path(sys.argv[1])), Look(96, 3, 'crop')).mean((1, 2)))"
    done = limited(code, tmp_path / "photo.jpg", gigabytes=0.1)  # 0.43 at full size
    assert done.stdout.startswith("[20"), done.stderr


def test_pillow_neither_warns_nor_refuses_below_our_limit() -> None:
    """Pillow warns from 89 million pixels, and refuses from 179 million."""
    content = one_bit_png(14_000, 14_000)
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(io.BytesIO(content)).size == (14_000, 14_000)
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == (before, filters)


def test_an_icon_is_larger_than_it_says() -> None:
    inner = one_bit_png(25_000, 20_000)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    with pytest.raises(UnreadableImage, match="more than 200 million pixels"):
        read(struct.pack("<HHH", 0, 1, 1) + entry + inner, COLOR)


def test_settings_of_pillow_are_as_before_whatever_threads_do() -> None:
    content, before = encoded(Image.new("RGB", (99, 50)), "PNG"), Image.MAX_IMAGE_PIXELS
    filters, seen = list(warnings.filters), []

    def work() -> None:
        for _ in range(50):
            with pixel_limits():
                read(content, COLOR)
                seen.append(Image.MAX_IMAGE_PIXELS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [decoding.MAX_PIXELS] * 200
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == (before, filters)


# Files that cannot be read.


def reason_of(make: Callable[[], object]) -> str:
    with pytest.raises(UnreadableImage) as caught:
        make()
    assert str(caught.value) == f"image cannot be read: {caught.value.reason}"
    return caught.value.reason


def test_reasons(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(noise(64, 64, 3)), "PNG")
    contents = {
        "empty.png": (b"", "empty file"),
        "text.jpg": (b"not an image at all, but some text", "not an image"),
        "head.png": (whole[:20], "damaged"),
        "half.png": (whole[: len(whole) // 2], "damaged"),
        "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
    }
    for name, (content, wanted) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert reason_of(lambda: to_pixels(open_image(tmp_path / name), COLOR)) == wanted  # noqa: B023
        assert reason_of(lambda: read(content, COLOR)) == wanted  # noqa: B023
    assert reason_of(lambda: open_image(tmp_path)) == "not a file"
    os.mkfifo(tmp_path / "pipe.png")
    assert reason_of(lambda: open_image(tmp_path / "pipe.png")) == "not a file"
    assert reason_of(lambda: open_image(tmp_path / "none.png")) == "no such file or directory"


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("L", (4, 4)), "PNG"))
    path.chmod(0)
    assert reason_of(lambda: open_image(path)) == "permission denied"


def test_the_error_is_ours_and_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("damaged", "said Pillow")))
    assert (error.reason, error.detail) == ("damaged", "said Pillow")
    assert isinstance(error, RunError) and str(error) == "image cannot be read: damaged"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_open_files_are_closed(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 9), (i, 0, 0)) for i in range(3)]
    for form in ("GIF", "TIFF", "WEBP", "PNG"):
        path = tmp_path / f"a.{form.lower()}"
        frames[0].save(path, form, save_all=True, append_images=frames[1:])
        before = open_files()
        image = open_image(path)
        to_pixels(image, COLOR)
        assert open_files() == before


def samples() -> Iterator[tuple[str, bytes]]:
    """A small file of every format that Pillow writes and we read."""
    color, flat = Image.fromarray(noise(24, 32, 3)), Image.fromarray(noise(24, 32))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    kinds = {
        "JPEG": (color, {"exif": exif}),
        "PNG": (color.quantize(20), {"transparency": bytes(range(20)), "exif": exif}),
        "TIFF": (color, {"compression": "tiff_lzw", "exif": exif}),
        "GIF": (color.quantize(9), {"save_all": True, "append_images": [color.quantize(5)]}),
        "BMP": (color, {}),
        "PPM": (Image.fromarray(noise(24, 32).astype(np.uint16) * 200), {}),
        "TGA": (color, {"compression": "tga_rle"}),
        "PCX": (color, {}),
        "SGI": (color, {}),
        "ICO": (color, {}),
        "DDS": (color, {}),
        "QOI": (color, {}),
        "MSP": (flat.convert("1"), {}),
        "XBM": (flat.convert("1"), {}),
        "SPIDER": (flat.convert("F"), {}),
        "BLP": (color.quantize(50), {}),
        "MPO": (color, {"save_all": True, "append_images": [color]}),
        "WEBP": (color, {"exif": exif}),
        "AVIF": (color, {"exif": exif}),
        "JPEG2000": (color, {}),
    }
    for form, (image, options) in kinds.items():
        codec = decoding.CODECS.get(form)
        if codec is None or features.check(codec):
            yield form, encoded(image, form, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield "CMYK", encoded(color.convert("CMYK"), "JPEG", progressive=True)
        yield "group 4", encoded(flat.convert("1"), "TIFF", compression="group4")
        yield "LAB", encoded(color.convert("LAB"), "TIFF")
        yield "F", encoded(flat.convert("F"), "TIFF")


SAMPLES = dict(samples())


def test_the_samples_can_be_read() -> None:
    for name, content in SAMPLES.items():
        assert read(content, COLOR).shape == (3, 16, 16), name


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_is_never_anything_else(name: str) -> None:
    """Cut off and changed at random places, a file is read or refused."""
    content = SAMPLES[name]
    random = np.random.default_rng(len(content))
    for attempt in range(150):
        broken = bytearray(content)
        if attempt % 3 == 0:
            del broken[random.integers(len(content)) :]
        else:  # mostly headers, where there is most to go wrong
            reach = len(content) if attempt % 3 == 1 else min(len(content), 64)
            for place in random.integers(reach, size=random.integers(1, 6)):
                broken[place] = random.integers(256)
        try:
            found = read(bytes(broken), COLOR)
        except UnreadableImage as error:
            assert error.reason and len(error.reason) < 60 and "\n" not in error.reason
        else:
            assert found.shape == (3, 16, 16)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300), start=st.sampled_from(sorted(SAMPLES)))
def test_junk_is_refused(content: bytes, start: str) -> None:
    for junk in (content, SAMPLES[start][:12] + content):
        try:
            read(junk, GRAY)
        except UnreadableImage as error:
            assert error.reason


# What can be read here.


def test_suffixes() -> None:
    known = image_suffixes()
    assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".mpo"} <= known
    assert not known & {".eps", ".ps", ".pdf", ".mpg", ".mpeg", ".wmf", ".emf", ".h5", ".grib"}
    assert all(s == s.lower() and s.startswith(".") for s in known)
    assert not known & lacking_suffixes().keys()
    assert (".webp" in known) == features.check("webp")
    assert ".avif" in {*known, *lacking_suffixes()} and ".heic" in {*known, *lacking_suffixes()}


def test_heic_is_read_or_named() -> None:
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    heif = ".heic" in image_suffixes()
    needs = "needs pillow-heif (pip install pillow-heif)"
    assert lacking_suffixes().get(".heic") == (None if heif else needs)
    assert reason_of(lambda: open_image(io.BytesIO(head))) == ("damaged" if heif else needs)


# What is chosen for a set.


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
