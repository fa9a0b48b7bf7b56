"""Readers: image folders and timm's data sets, decoded at once or as images are needed."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...spaces.errors import RunError
from ..config import DataConfig
from ..console import progress
from .augment import Norm
from .splits import Images, split_by_class
from .timm_dataset import BROKEN, Source, eval_transform, reason, train_transform

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp", ".tif", ".tiff")
NAMED = 5  # broken images that a message names

SAMPLE = 512  # images that stand for a train split that is not in memory

log = logging.getLogger("vitpareto")


def read_source(config: DataConfig, size: int) -> Images:
    """The images of a folder or of one of timm's data sets.

    A train split that would take more memory than `config.memory_mb` is decoded during training;
    the other splits are always in memory.

    Raises:
        RunError: a folder or class without images, fewer than two classes, labels outside of
            them, too many broken images, or too few images for the splits.
    """
    train, test = open_sources(config)
    names, listed, gray = train.class_names, train.labels(), train.gray
    channels = 1 if gray else 3
    index = range(len(train))
    if config.limit and listed is not None:
        index = _first_of_each(listed, config.limit)
    shares = {part: n for part, n in config.shares.items() if part != "test" or test is None}

    def read(source: Source, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        return decode(source, chosen, size, gray, config.broken)

    stream = None
    if listed is None or 4e-6 * len(index) * channels * size**2 <= config.memory_mb:
        pixels, labels = read(train, index)
        parts = split_by_class(labels, shares, config.seed, names)
        images = {part: (pixels[i], labels[i]) for part, i in parts.items()}
        all_labels = images["train"][1]
    else:
        if not train.indexed:
            raise RunError(f"data: {train.name} is read in one go and needs data.memory_mb")
        chosen = torch.tensor(index)
        parts = split_by_class(torch.tensor(listed)[chosen], shares, config.seed, names)
        indices = {part: chosen[i] for part, i in parts.items()}
        generator = torch.Generator().manual_seed(config.seed)
        order = torch.randperm(len(indices["train"]), generator=generator)
        sample = indices["train"][order[:SAMPLE]]
        images = {
            part: read(train, (sample if part == "train" else i).tolist())
            for part, i in indices.items()
        }
        norm = Norm.of(images["train"][0])
        stream = Streamed(
            train, indices["train"].tolist(), size, gray, norm, config.flip, config.workers
        )
        all_labels = torch.tensor(listed)[indices["train"]]
    if test is not None:
        images["test"] = read(test, range(len(test)))
        if test.class_names != names:
            odd = sorted(set(names) ^ set(test.class_names))
            raise RunError(f"data: classes of train and test differ: {', '.join(odd[:NAMED])}")
    labels = {part: classes for part, (_, classes) in images.items()} | {"train": all_labels}
    names = names or tuple(map(str, range(int(all_labels.max()) + 1)))
    _check_labels(torch.cat(list(labels.values())), names)
    return Images(names, {part: pixels for part, (pixels, _) in images.items()}, labels, stream)


def open_sources(config: DataConfig) -> tuple[Source, Source | None]:
    """The source of the splits, and that of the test split where it is a source of its own."""
    if config.name == "folder":
        train, test = class_folders(Path(config.root).expanduser())
        return Source("", train, "train"), Source("", test, "test") if test else None
    opened = Source(config.name, config.root, config.train_split)
    if not config.test_split:
        return opened, None
    return opened, Source(config.name, config.root, config.test_split)


def _first_of_each(labels: Sequence[int], limit: int) -> list[int]:
    """Indices of the first images of each class, `limit` in all or a few less."""
    members: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    each = max(1, limit // len(members))
    return sorted(i for of_class in members.values() for i in islice(of_class, each))


def _check_labels(labels: Tensor, names: Sequence[str]) -> None:
    low, high = int(labels.min()), int(labels.max())
    if len(names) < 2 or low < 0 or high >= len(names):
        raise RunError(
            f"data: needs two or more classes and labels from 0 on; got {len(names)} classes and "
            f"labels from {low} to {high}"
        )


class Streamed:
    """Images that are decoded whenever they are asked for, in processes of their own.

    Args:
        source: of the images.
        index: which of them (N,).
        size: side in pixels.
        gray: one channel instead of three.
        norm: of pixels.
        flip: whether left and right may change sides in a view.
        workers: processes that decode.
    """

    def __init__(
        self,
        source: Source,
        index: Sequence[int],
        size: int,
        gray: bool,
        norm: Norm,
        flip: bool,
        workers: int,
    ) -> None:
        self._decoder = _Decoder(source, index, size, "L" if gray else "RGB", flip)
        self._norm, self._workers = norm, workers

    def batches(self, view: int, chunks: Sequence[Tensor]) -> Iterator[Tensor]:
        """A view of the images of each chunk: (B, C, S, S)."""
        loader: Any = DataLoader(
            self._decoder,
            batch_sampler=[[(int(i), view) for i in chunk] for chunk in chunks],
            num_workers=self._workers,
            generator=torch.Generator(),  # otherwise it draws from the global one
        )
        with _child_signals_kept():
            for images in loader:
                yield self._norm(images)


@contextlib.contextmanager
def _child_signals_kept() -> Generator[None]:
    """Take back the handler of ended children that a loader with workers installs for good.

    Any other process that ends later would call it; after OpenVINO had run a model, that call
    crashed this one.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


class _Decoder(Dataset[Tensor]):
    """Position and view -> uint8 (C, S, S), the same pixels in every process."""

    def __init__(
        self, source: Source, index: Sequence[int], size: int, mode: str, flip: bool
    ) -> None:
        self._source, self._index = source, list(index)
        self._transform = train_transform(size, mode, flip)

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        position, view = item
        for attempt in range(len(self._index)):
            number = self._index[(position + attempt) % len(self._index)]
            try:
                image, _ = self._source.read(number)
            except BROKEN as error:  # the next one stands in for it
                log.warning("data: skipped %s: %s", self._source.name_of(number), reason(error))
                continue
            with _seeded(number, view):
                return self._transform(image)
        raise RunError(f"data: no image of {self._source.name} can be read")


@contextlib.contextmanager
def _seeded(image: int, view: int) -> Generator[None]:
    """Seed both generators that transforms draw from, for one view of one image."""
    state = random.getstate()
    random.seed(f"{image} {view}")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(image * 4099 + view)
            yield
    finally:
        random.setstate(state)


def class_folders(root: Path) -> tuple[Path, Path | None]:
    """Folder that holds the class folders, and that of a separate test split if there is one.

    Either ROOT/CLASS, or ROOT/train/CLASS and perhaps ROOT/test/CLASS.

    Raises:
        RunError: no such folder, a class without images, or fewer than two classes.
    """
    if not root.is_dir():
        raise RunError(f"data.root: no such folder: {str(root)!r}")
    train, test = root / "train", root / "test"
    folders = (train, test if test.is_dir() else None) if train.is_dir() else (root, None)
    for folder in filter(None, folders):
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        if len(classes) < 2:
            names = ", ".join(repr(path.name) for path in classes) or "none"
            raise RunError(f"data: {folder}: needs folders of two or more classes, has {names}")
        for path in classes:
            if not any(file.suffix.lower() in SUFFIXES for file in path.rglob("*")):
                raise RunError(f"data: class folder {path} has no images")
    return folders


def decode(
    source: Source, index: Sequence[int], size: int, gray: bool, broken: float
) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, S, S) and labels (N,), without those that are broken.

    Args:
        source: of the images.
        index: which of them.
        size: side in pixels.
        gray: one channel instead of three.
        broken: largest share of broken images that is tolerated.

    Raises:
        RunError: more are broken.
    """
    transform = eval_transform(size, "L" if gray else "RGB")
    images: list[Tensor] = []
    labels: list[int] = []
    skipped: list[str] = []
    with progress(len(index), f"reading {source.name}", "image") as bar:
        for i, item in zip(index, source.items(index), strict=False):
            bar.update()
            if isinstance(item, str):
                skipped.append(f"{source.name_of(i)} ({item})")
                continue
            image, label = item
            images.append(transform(image))
            labels.append(label)
    if skipped:
        text = f"{len(skipped)} of {len(index)} images are broken: {', '.join(skipped[:NAMED])}"
        if len(skipped) > broken * len(index):
            raise RunError(f"data: {text}; data.broken allows a share of {broken}")
        log.warning("data: skipped %s", text)
    return torch.stack(images), torch.tensor(labels)
