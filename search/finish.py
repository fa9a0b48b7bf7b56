"""Finish: a finalist is cut out of the supernet, trained on its own, and exported."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ..cost_models import Device
from ..spaces.supernet import Supernet
from .config import RunConfig
from .data import Data
from .distill import fine_tune
from .evaluate import Evaluation
from .export import export_trained
from .files import sync_folder
from .teacher import Lessons


def finish(
    folder: Path,
    evaluation: Evaluation,
    supernet: Supernet,
    lessons: Lessons,
    data: Data,
    device: Device,
    recipes: Mapping[str, str],
    config: RunConfig,
) -> None:
    """Make the artifact of a finalist, unless it is there.

    The folder gets its name when all its files are written, so that a kill leaves none behind
    that looks finished.

    Args:
        folder: where the artifact will be.
        evaluation: of the finalist.
        supernet: trained shared weights.
        lessons: what it is fine-tuned on.
        data: for calibration images and metadata.
        device: where it will run.
        recipes: what the device runs each precision with.
        config: of the run.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the loss is no number, or the folder cannot be written.
    """
    if folder.exists():
        return
    candidate = evaluation.candidate
    network = supernet.extract(candidate)
    network = fine_tune(candidate, network, lessons, config.finish, config.search.seed)
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    images = config.export.calibration_images
    export_trained(unfinished, candidate, network, recipes, device, data, images)
    unfinished.rename(folder)
    sync_folder(folder.parent)
