"""Large images take little memory, and too large ones are refused undecoded."""

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpareto.search.data import decoding
from vitpareto.search.data.pixels import (
    FITS,
    Look,
    UnreadableImage,
    open_image,
    pixel_limits,
    to_pixels,
)

from .coding import COLOR, encoded, noise, read


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
    Image.new("RGB", (8_000, 6_000), (200, 100, 50)).save(tmp_path / "photo.jpg")
    code = "print(to_pixels(open_image(Path(sys.argv[1])), Look(96, 3, 'crop')).mean((1, 2)))"
    done = limited(code, tmp_path / "photo.jpg", gigabytes=0.1)  # 0.19 at full size
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
