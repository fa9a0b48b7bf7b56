"""Reading: images a second in training, against torchvision's ImageFolder with a DataLoader.

Both have two cores: ours threads, theirs worker processes. Both squash images, turn, move, zoom and
flip them, and normalize. `PHOTOS=FOLDER python -m tests.bench reading` takes own photos.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from vitpareto.search.config import DataConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import load_data, record_images
from vitpareto.search.data.planning import plan_reading
from vitpareto.search.data.splits import SPLITS
from vitpareto.search.store.run_folder import RunPaths

from ._row import HEADER, row

COUNT, SIZE, BATCH, WORKERS, REPEATS = 2000, 96, 64, 2, 3


def main() -> None:
    torch.set_num_threads(WORKERS)
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(os.environ.get("PHOTOS") or make_photos(Path(folder) / "photos"))
        ours, theirs = list[tuple[float, float]](), list[tuple[float, float]]()
        for i in range(REPEATS):
            theirs.append(epochs(their_epoch(photos)))
            ours.append(epochs(our_epoch(photos, Path(folder) / f"run{i}")))
    for name, column, bar in (("first", 0, "0.9x"), ("second", 1, "2x")):
        ratios = sorted(a[column] / b[column] for a, b in zip(ours, theirs, strict=True))
        mine, other = (np.median([rate[column] for rate in rates]) for rates in (ours, theirs))
        row(f"{name} epoch, images/s, theirs", f"{other:.0f}")
        row(f"{name} epoch, images/s, ours", f"{mine:.0f}")
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        row(f"{name} epoch, ours to theirs", f"{np.median(ratios):.2f}x", bar, spread)
    for name, who in (
        ("this process", resource.RUSAGE_SELF),
        ("a worker", resource.RUSAGE_CHILDREN),
    ):
        row(f"peak memory of {name}", f"{resource.getrusage(who).ru_maxrss / 1024:.0f} MB")


def epochs(epoch: Callable[[int], int]) -> tuple[float, float]:
    """Images a second of the first and the second epoch."""
    rates = list[float]()
    for number in range(2):
        start = time.perf_counter()
        images = epoch(number)
        rates.append(images / (time.perf_counter() - start))
    return rates[0], rates[1]


def our_epoch(photos: Path, run: Path) -> Callable[[int], int]:
    run.mkdir()
    config, paths = DataConfig(root=str(photos), flip=True), RunPaths(run)
    opened = list[Data]()
    plan_reading.cache_clear()

    def epoch(number: int) -> int:
        if not number:
            record_images(config, SIZE, paths)
            opened.append(load_data(config, SIZE, None, paths))
        (data,) = opened
        seen = sum(len(batch) for batch in data.views().batches(number, order(data)))
        # In the first epoch all splits are read, copies are looked for, and all is recorded.
        return seen if number else sum(map(data.count, SPLITS))

    return epoch


def order(data: Data) -> list[torch.Tensor]:
    return list(torch.randperm(len(data.train_labels)).split(BATCH))


def their_epoch(photos: Path) -> Callable[[int], int]:
    steps = [
        transforms.Resize((SIZE, SIZE), transforms.InterpolationMode.BICUBIC),
        transforms.RandomAffine(10, (0.08, 0.08), (0.9, 1.1)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.25,) * 3),
    ]
    train = photos / "train" if (photos / "train").is_dir() else photos
    images = ImageFolder(str(train), transforms.Compose(steps))

    def epoch(number: int) -> int:
        loader = DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS)
        return sum(len(batch) for batch, _ in loader)

    return epoch


def make_photos(root: Path) -> Path:
    """JPEG files of blurred noise, as large as photos in public sets."""
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        path = root / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        fine = rng.normal(0, 6, (256, 341, 3))
        pixels = np.asarray(coarse.resize((341, 256), Image.Resampling.BICUBIC)) + fine
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=85)
    return root
