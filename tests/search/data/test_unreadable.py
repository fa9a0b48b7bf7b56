"""Files that cannot be read are refused with a reason, whatever is wrong with them."""

import io
import os
import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from vitpareto.search.data import decoding
from vitpareto.search.data.pixels import (
    UnreadableImage,
    image_suffixes,
    lacking_suffixes,
    open_image,
    to_pixels,
)
from vitpareto.spaces.errors import RunError

from .coding import COLOR, GRAY, encoded, noise, read, reason_of


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
