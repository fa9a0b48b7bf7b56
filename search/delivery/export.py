"""Export: a trained network as self-contained files, in its candidate's own precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ...cost_models import Device, workload
from ...cost_models.graphs.modules import input_shape, randomize
from ...cost_models.hand_over import check_exits
from ...cost_models.units.precision_recipes import Book, find_recipe, group_of, recipe_for
from ...spaces import Candidate
from ...spaces.errors import RunError
from ...spaces.networks import Network
from ..data.dataset import Data, resized
from ..store.atomic_files import write_atomic
from .artifact import CANDIDATE, WEIGHTS
from .build import Build
from .exit_parts import encode_parts
from .formats import format_of
from .preprocessing import Preprocessing

FEWEST = 8  # calibration images; static ranges from fewer clip too much on other images


def build_for(
    device: Device,
    candidate: Candidate,
    network: Network,
    recipes: Book | Sequence[str],
    data: Data,
    calibration_images: int,
    compensate: bool = False,
) -> Build:
    """Make a candidate ready for the runtime of a device.

    Args:
        device: whose runtime decides the format, which may store by other recipes.
        candidate: whose compression is applied.
        network: plain, with trained weights.
        recipes: by which the device runs each precision.
        data: for calibration.
        calibration_images: train images from which activation ranges are taken.
        compensate: whether norms and biases are corrected for rounding.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: there are too few calibration images.
    """
    recipes = format_of(device).recipes(candidate, recipes)
    images = calibration(data, candidate, calibration_images, recipes)
    return Build(candidate, network, recipes, images, compensate)


def random_build(device: Device, candidate: Candidate) -> Build:
    """Make a candidate ready with random weights and images, for latency work."""
    with torch.random.fork_rng(devices=[]):
        network = Network(candidate.architecture)
    randomize(network)
    shape = input_shape(candidate, max(FEWEST, device.batch))
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    recipes = format_of(device).recipes(candidate, device.recipes)
    return Build(candidate, network, recipes, images)


def export_trained(
    folder: Path, build: Build, device: Device, preprocessing: Preprocessing
) -> tuple[str, ...]:
    """Write candidate, weights, model, companion files and parts of a trained network.

    Args:
        folder: to write to.
        build: of the network, whose plain weights are kept beside the model.
        device: whose runtime decides the format.
        preprocessing: of the images, for the metadata.

    Returns:
        Names of the files.

    Raises:
        CostError: a precision that the device cannot run, or exits.
        RunError: the folder cannot be written.
    """
    check_exits(build.candidate, device.to_dict())
    form = format_of(device)
    write_atomic(folder / CANDIDATE, build.candidate.to_json() + "\n")
    write_atomic(folder / WEIGHTS, save(build.network.state_dict()))
    write_atomic(folder / form.file, form.encode(build, device, preprocessing))
    companions = form.companions(build, device, preprocessing)
    beside = {**companions, **encode_parts(build, device, preprocessing)}
    for name, content in beside.items():
        write_atomic(folder / name, content)
    return CANDIDATE, WEIGHTS, form.file, *beside


def export_random(folder: Path, candidate: Candidate, device: Device) -> str:
    """Write candidate and model with random weights, for latency work; name of the model's file.

    Parts of a network with exits are written, too.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written.
    """
    form = format_of(device)
    build = random_build(device, candidate)
    files = {form.file: form.encode(build, device, None), **encode_parts(build, device, None)}
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    for name, content in files.items():
        write_atomic(folder / name, content)
    return form.file


def calibration(
    data: Data, candidate: Candidate, count: int, recipes: Book | Sequence[str]
) -> Tensor:
    """Some train images of all classes, at the candidate's size: (N, C, S, S).

    Raises:
        CostError: a precision that the device cannot run.
        RunError: too few for static ranges.
    """
    images = data.split("train").some(count).images
    chosen = map(find_recipe, chosen_recipes(candidate, recipes).values())
    static = any(recipe.activations == "static" for recipe in chosen)
    if static and len(images) < FEWEST:
        raise RunError(
            f"export.calibration_images: static ranges need at least {FEWEST} images, "
            f"got {len(images)}"
        )
    return resized(images, candidate.architecture.input_size)


def check_runs(candidate: Candidate, device: Device) -> None:
    """Check that a device can run a candidate.

    Raises:
        CostError: a precision that it cannot run, or exits.
    """
    check_exits(candidate, device.to_dict())
    chosen_recipes(candidate, format_of(device).recipes(candidate, device.recipes))


def chosen_recipes(candidate: Candidate, recipes: Book | Sequence[str]) -> Mapping[str, str]:
    """Group -> recipe, for the groups that a candidate has.

    Raises:
        CostError: a precision that the device cannot run.
    """
    blocks = workload(candidate).sub_blocks
    return {group_of(block): recipe_for(block, recipes) for block in blocks}
