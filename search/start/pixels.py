"""Pixels: mean and deviation of the images that a foreign model has learned from."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from ...spaces.errors import RunError
from ..data.augment import Norm
from ..store.atomic_files import read_json

IMAGENET = Norm((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of all models of torchvision
PROCESSOR = "preprocessor_config.json"  # beside the weights of a model of transformers


def pixels_of(model: Any, name: str, channels: int) -> Norm:
    """The normalization that comes with a model.

    Args:
        model: of timm, transformers or torchvision.
        name: of the model, or its folder.
        channels: of its images; where it names others, each gets their mean.

    Raises:
        RunError: nothing says what it is.
    """
    mean, std = _own(model, name)
    return Norm(_for(channels, mean), _for(channels, std))


def _own(model: Any, name: str) -> tuple[Any, Any]:
    if (about := getattr(model, "pretrained_cfg", None)) is not None:  # timm's
        return about["mean"], about["std"]
    if type(model).__module__.startswith("torchvision."):
        return IMAGENET.mean, IMAGENET.std
    file = Path(name).expanduser() / PROCESSOR
    if not file.is_file():
        raise RunError(
            f"start.mean: nothing says which pixels {name} has learned from, as it has no "
            f"{PROCESSOR}: give start.mean and start.std"
        )
    about = read_json(file)
    if not about.get("do_rescale", True):  # whoever calls it does, in a way that it does not say
        raise RunError(
            f"start.mean: {file} does not scale pixels (do_rescale): give start.mean and start.std"
        )
    known = [about.get(name) for name in ("image_mean", "image_std")]
    if not about.get("do_normalize", True):
        known = [0.0, 1.0]
    if None in known:  # transformers then takes what each of its processors has by default
        raise RunError(
            f"start.mean: {file} has no image_mean or no image_std: give start.mean and start.std"
        )
    white = 255 * float(about.get("rescale_factor", 1 / 255))  # ours is 1
    mean, std = ([v / white for v in _listed(values)] for values in known)
    return mean, std


def _for(channels: int, values: Any) -> tuple[float, ...]:
    """A number for each channel, of numbers or of one for all."""
    numbers = tuple(_listed(values))
    return numbers if len(numbers) == channels else (fmean(numbers),) * channels


def _listed(values: Any) -> list[float]:
    return [float(value) for value in (values if isinstance(values, list | tuple) else [values])]
