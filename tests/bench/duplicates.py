"""Duplicates: time of one core, and memory, that the search for them takes.

`python -m tests.bench duplicates` needs about a minute on one core.
"""

import resource
import time

import imagehash
import numpy as np
from PIL import Image

from vitpareto.search.data.duplicates import find_duplicates

from ._row import HEADER, row

COUNT, HASHES = 100_000, 5_000


def main() -> None:
    print(HEADER)
    prints = {
        "no two alike": blots(COUNT),
        "all alike": np.repeat(blots(1), COUNT, 0)
        + np.arange(COUNT, dtype=np.uint8)[:, None, None] % 8,
        "all blank": np.full((COUNT, 32, 32), 255, np.uint8),
        "of one layout": layout(COUNT // 10),
    }
    for name, each in prints.items():
        start = time.process_time()
        found = find_duplicates(each, [f"{i:x}" for i in range(len(each))])
        seconds = time.process_time() - start
        row(f"{len(each):,} images, {name}: {len(found.near)} groups", f"{seconds:.1f} s", "20 s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row(
        f"peak memory, {sum(p.nbytes for p in prints.values()) >> 20} MB of prints in it",
        f"{peak:.0f} MB",
    )
    start = time.process_time()
    for each in prints["no two alike"][:HASHES]:
        imagehash.phash(Image.fromarray(each))
    each_us = (time.process_time() - start) / HASHES * 1e6
    row("of it ImageHash's pHash, an image", f"{each_us:.0f} us", "300 us")


def blots(count: int) -> np.ndarray:
    """Prints of blots of all sizes (N, 32, 32), as photos have them."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.fft.fftfreq(32), np.fft.rfftfreq(32), indexing="ij")
    scale = np.float32(1 / (np.hypot(y, x) + 0.03))
    prints = np.empty((count, 32, 32), np.uint8)
    for i in range(count):
        plain = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((32, 32), np.float32)) * scale)
        prints[i] = np.clip(128 + 40 * plain / plain.std(), 0, 240)
    return prints


def layout(count: int) -> np.ndarray:
    """Prints of one pHash, each with other details (N, 32, 32), as scans of a form have them."""
    rng = np.random.default_rng(0)
    return np.uint8(128 + (blots(1) - 128.0) * 0.5 + rng.choice([-18, 18], (count, 32, 32)))
