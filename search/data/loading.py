"""Loading: the images of a run, recorded once in its folder, or read into memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...spaces.errors import RunError
from ..config import DataConfig
from ..store.atomic_files import write_atomic
from ..store.run_folder import RunPaths
from .assignment import check_counts
from .augment import Norm
from .catalog import Catalog, Row
from .dataset import Data, Images, mixed
from .digits import CLASSES, GRAY, read_digits
from .pixels import Look
from .planning import ReadingPlan, evenly, plan_reading
from .reading import Pixels, read_all
from .rows import Rows, check_room, open_pixels, rows_of
from .sources.listing import digest
from .splits import SPLITS, check_splits, split_by_class
from .survey import survey

SHOWN = 256  # images of a split on which a ready model is looked at before a run starts


def load_data(
    config: DataConfig, input_size: int, seal: Path | None = None, paths: RunPaths | None = None
) -> Data:
    """The data set of a run, at the largest size that its space uses.

    Args:
        config: name of the data set, and the shares of its splits.
        input_size: side of the images in pixels.
        seal: see `Data`.
        paths: of a run folder; if it records its images, they are those, otherwise the source is
            read into memory.

    Raises:
        RunError: a source that cannot be read, fewer images than the splits need, or a run of an
            older version that did not record its images.
    """
    if paths and paths.catalog.exists():
        catalog = Catalog.load(paths.catalog, paths.images)
        shape = _shape(catalog.look, len(catalog.rows))
        rows = {s: rows_of(paths.pixels, shape, catalog.rows_of(s)) for s in SPLITS}
        return Data(config.label, _images(catalog, rows), config.flip, seal, catalog.norm)
    if paths and paths.teacher.exists() and not config.is_digits:
        raise RunError(
            f"{paths.path}: made before runs recorded their images, so that labels and splits of "
            f"{config.root or config.name} may be others today: start a new run"
        )
    # Frozen models are hashable, which their types do not say.
    images = read_images(config, input_size)  # pyright: ignore[reportArgumentType]
    return Data(config.label, images, config.flip, seal)


def record_images(
    config: DataConfig, size: int, paths: RunPaths, norm: Norm | None = None
) -> Catalog:
    """Read the images of a run into its folder; a stopped reading goes on where it was.

    Args:
        config: of the data.
        size: side in pixels.
        paths: of the run folder.
        norm: by which all networks see them; that of the train images by default.

    Raises:
        RunError: as `load_data`, or they have no room there.
    """
    if config.is_digits:
        catalog, pixels = _digits(config, size)
        write_atomic(paths.pixels, pixels.tobytes())
    else:
        plan = plan_reading(config, size)  # pyright: ignore[reportArgumentType]
        check_room(paths.path, plan.look, len(plan.listing.entries))
        _forget_others(paths, config, plan)
        shape = _shape(plan.look, len(plan.listing.entries))
        mapped = open_pixels(paths.pixels, shape, create=True)
        catalog = survey(config, plan, mapped, paths.reading)
        mapped.flush()  # to disk, before the catalog says that they are there
    catalog = replace(catalog, norm=norm)
    catalog.save(paths.catalog, paths.images)
    paths.reading.unlink(missing_ok=True)
    return catalog


def channels_and_classes(config: DataConfig, size: int, paths: RunPaths) -> tuple[int, int]:
    """Channels of the images and number of classes, of a run folder that may not exist yet.

    Raises:
        RunError: the source cannot be read.
    """
    if config.is_digits:
        return config.channels or GRAY, len(CLASSES)
    if paths.begun and paths.catalog.exists():  # otherwise it may be of other images
        catalog = Catalog.load(paths.catalog, paths.images)
        return catalog.look.channels, len(catalog.class_names)
    plan_reading.cache_clear()  # for an earlier run of this process they may have been others
    plan = plan_reading(config, size)  # pyright: ignore[reportArgumentType]
    check_counts(config, plan.listing)
    return plan.look.channels, len(plan.listing.class_names)


def catalog_of(
    config: DataConfig, size: int, strict: bool = True, norm: Norm | None = None
) -> Catalog:
    """Catalog of images that are looked at, but not kept.

    Args:
        config: of the data.
        size: side in pixels.
        strict: raise what would stop a search; otherwise it is a warning.
        norm: as for `record_images`.

    Raises:
        RunError: the source cannot be read; if strict, also as `load_data`.
    """
    if config.is_digits:
        return replace(_digits(config, size)[0], norm=norm)
    plan = plan_reading(config, size)  # pyright: ignore[reportArgumentType]
    return replace(survey(config, plan, strict=strict), norm=norm)


def pixels_of(config: DataConfig, size: int, rows: Sequence[int]) -> Pixels:
    """Pixels of some rows of a catalog, read again: (N, C, S, S)."""
    if config.is_digits:
        return _digits(config, size)[1][rows]
    plan = plan_reading(config, size)  # pyright: ignore[reportArgumentType]
    images: dict[int, Pixels] = {}
    read_all(plan.listing.only(rows), plan.look, images.__setitem__)
    return np.stack([images[i] for i in range(len(rows))])


def sample_data(config: DataConfig, size: int, catalog: Catalog) -> Data:
    """Data of a few images in each split but the test split, to look at a model before a run."""
    numbers = {name: i for i, name in enumerate(catalog.class_names)}
    rows, labels = dict[str, Tensor](), dict[str, Tensor]()
    for split in ("train", "search", "validation"):
        chosen = catalog.rows_of(split)
        chosen = chosen[mixed(len(chosen), SHOWN)].tolist()
        rows[split] = torch.from_numpy(pixels_of(config, size, chosen))
        labels[split] = torch.tensor([numbers[catalog.rows[i].label] for i in chosen])
    rows["test"], labels["test"] = rows["search"], labels["search"]
    images = Images(catalog.class_names, catalog.look, rows, labels)
    return Data(catalog.name, images, norm=catalog.norm)


def blank_data(catalog: Catalog) -> Data:
    """Data as large as a catalog says, of black images, to time what a run does with them."""
    blank = torch.zeros(1, *_shape(catalog.look, 1)[1:], dtype=torch.uint8)
    rows = {s: blank.expand(len(catalog.rows_of(s)), -1, -1, -1) for s in SPLITS}
    return Data(catalog.name, _images(catalog, rows))


@lru_cache(maxsize=1)
def read_images(config: DataConfig, size: int) -> Images:
    """The images of a run in memory.

    Raises:
        RunError: as `load_data`.
    """
    if config.is_digits:
        catalog, pixels = _digits(config, size)
    else:
        plan = plan_reading(config, size)  # pyright: ignore[reportArgumentType]
        pixels = np.zeros(_shape(plan.look, len(plan.listing.entries)), np.uint8)
        catalog = survey(config, plan, pixels)
    held = torch.from_numpy(pixels)
    return _images(catalog, {s: held[catalog.rows_of(s)] for s in SPLITS})


def _images(catalog: Catalog, rows: Mapping[str, Rows]) -> Images:
    labels: dict[str, Tensor] = {split: catalog.labels_of(split) for split in SPLITS}
    return Images(catalog.class_names, catalog.look, rows, labels)


def _digits(config: DataConfig, size: int) -> tuple[Catalog, Pixels]:
    """Catalog and pixels of the digits."""
    pixels, labels = read_digits(size)
    chosen = evenly(labels.tolist(), config.limit, config.seed)
    look = Look(size, config.channels or GRAY, config.fit or "squash")  # a square fits in any way
    pixels, labels = pixels[chosen].repeat(1, look.channels, 1, 1), labels[chosen]
    splits = [""] * len(labels)
    parts = split_by_class(labels, config.shares, config.seed)
    check_splits(labels, parts, CLASSES)
    for part, index in parts.items():
        for i in index.tolist():
            splits[i] = part
    rows = [
        Row(f"digits/{number}", CLASSES[label], split, digest(image.numpy().tobytes()))
        for number, label, split, image in zip(chosen, labels.tolist(), splits, pixels, strict=True)
    ]
    facts = {"source": "scikit-learn's digits", "files": len(rows)}
    return Catalog(config.label, CLASSES, look, rows, (), facts, (), ()), pixels.numpy()


def _shape(look: Look, images: int) -> tuple[int, int, int, int]:
    return images, look.channels, look.size, look.size


def _forget_others(paths: RunPaths, config: DataConfig, plan: ReadingPlan) -> None:
    """Delete what a stopped reading left, unless it was of the same images."""
    names = [entry.name for entry in plan.listing.entries]
    content = json.dumps([config.model_dump(mode="json"), repr(plan.look), names])
    key = json.dumps({"images": digest(content.encode())}) + "\n"
    both = paths.reading.exists() and paths.pixels.exists()
    if not (both and paths.reading.read_text("utf-8").startswith(key)):
        paths.pixels.unlink(missing_ok=True)
        write_atomic(paths.reading, key)
