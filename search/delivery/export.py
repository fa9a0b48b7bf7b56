"""Export: a finished network as files that stand alone, in its candidate's own precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ...cost_models import Device, workload
from ...cost_models.graphs.modules import input_shape
from ...cost_models.graphs.modules import network as random_network
from ...cost_models.units.precision_recipes import Book, find_recipe, group_of, recipe_for
from ...spaces import Candidate
from ...spaces.errors import RunError
from ...spaces.networks import Network
from ..compress import calibrate, compensated, deliverable, run_batches
from ..data.dataset import Data, Split, resized
from ..store.atomic_files import write_atomic
from ..training.forward import BATCH
from .artifact import CANDIDATE, ONNX, PREDICT, TORCHSCRIPT, WEIGHTS, model_file
from .decompression import policies, with_policy
from .formats import Preprocessing, to_model, to_program
from .predict_example import PROGRAM

PT2 = "model.pt2"
ROUNDED = ("float", "fp16", "stored8", "stored4")
FEWEST = 8  # calibration images; fixed ranges from fewer cut off what most images need


def export_trained(
    folder: Path,
    candidate: Candidate,
    network: Network,
    recipes: Book | Sequence[str],
    device: Device,
    data: Data,
    calibration_images: int,
    compensate: bool = False,
) -> tuple[str, ...]:
    """Write candidate, weights and model of a finished network, an ONNX file with `predict.py`.

    Args:
        folder: to write to.
        candidate: what the network is.
        network: plain, with trained weights; as such they are kept beside the model.
        recipes: what the device runs each precision with.
        device: whose runtime settles the format.
        data: for calibration and metadata.
        calibration_images: train images from which activation ranges are taken.
        compensate: as for `ready`.

    Returns:
        Names of the files.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written, or there are too few calibration images.
    """
    run_as, recipes = as_run(candidate, recipes, device)
    images = calibration(data, run_as, calibration_images, recipes)
    delivered = ready(network, run_as, recipes, images, compensate)
    about = Preprocessing.of(data)
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    write_atomic(folder / WEIGHTS, save(network.state_dict()))
    content = to_model(candidate, delivered, recipes, device, images.numpy(), about)
    write_atomic(folder / model_file(device), content)
    if device.runtime == "torch":
        write_atomic(folder / PT2, to_program(candidate, delivered, device.batch, about))
        return CANDIDATE, WEIGHTS, TORCHSCRIPT, PT2
    write_atomic(folder / PREDICT, PROGRAM)
    return CANDIDATE, WEIGHTS, PREDICT, ONNX


def ready(
    network: Network,
    candidate: Candidate,
    recipes: Book | Sequence[str],
    images: Tensor,
    compensate: bool,
) -> Network:
    """A folded and factored copy, the one whose graph is exported.

    Args:
        network: plain, with trained weights.
        candidate: what it is.
        recipes: what the device runs each precision with.
        images: those of the calibration.
        compensate: whether norms and biases make up for what rounding shifts; see
            `compress.compensated`.
    """
    delivered = deliverable(network, candidate)
    return compensated(delivered, candidate, recipes, images) if compensate else delivered


def export_random(folder: Path, candidate: Candidate, device: Device) -> str:
    """Write candidate and model with random weights, for latency work; the model's name.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written.
    """
    shape = input_shape(candidate, max(FEWEST, device.batch))
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    content = to_model(candidate, random_network(candidate), device.recipes, device, images)
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    write_atomic(folder / model_file(device), content)
    return model_file(device)


@torch.inference_mode()
def expected_logits(
    candidate: Candidate,
    network: Network,
    split: Split,
    recipes: Book | Sequence[str],
    calibration_images: Tensor,
    compensate: bool = False,
) -> Tensor:
    """What torch says the artifact will say, rounding for rounding: (N, K).

    Args:
        candidate: its compression is applied.
        network: plain, with trained weights.
        split: of the images.
        recipes: what the device runs each precision with.
        calibration_images: those with which the artifact is calibrated.
        compensate: as for `ready`.

    Raises:
        CostError: a precision that the device cannot run.
    """
    delivered = ready(network, candidate, recipes, calibration_images, compensate)
    params = delivered.state_dict()
    seen = calibrate(delivered, params, candidate, calibration_images)
    batches = resized(split.images, candidate.architecture.input_size).split(BATCH)
    return run_batches(delivered, params, candidate, batches, recipes, seen)


def calibration(
    data: Data, candidate: Candidate, count: int, recipes: Book | Sequence[str]
) -> Tensor:
    """The first train images, at the candidate's size: (N, C, S, S).

    Raises:
        CostError: a precision that the device cannot run.
        RunError: too few for fixed ranges.
    """
    images = data.split("train").images[:count]
    chosen = map(find_recipe, chosen_recipes(candidate, recipes).values())
    static = any(recipe.activations == "static" for recipe in chosen)
    if static and len(images) < FEWEST:
        raise RunError(
            f"export.calibration_images: static ranges need at least {FEWEST} images, "
            f"got {len(images)}"
        )
    return resized(images, candidate.architecture.input_size)


def check_runs(candidate: Candidate, device: Device) -> None:
    """See that a device can run a candidate.

    Raises:
        CostError: a precision that it cannot run.
    """
    chosen_recipes(*as_run(candidate, device.recipes, device))


def as_run(
    candidate: Candidate, recipes: Book | Sequence[str], device: Device
) -> tuple[Candidate, Book | Sequence[str]]:
    """What a device makes of a candidate, and by which recipes.

    Torch computes in float32, with weights that were rounded once: activations keep all bits.
    """
    if device.runtime != "torch":
        return candidate, recipes
    for place, policy in policies(candidate).items():
        candidate = with_policy(candidate, place, replace(policy, act_bits=32))
    return candidate, ROUNDED


def chosen_recipes(candidate: Candidate, recipes: Book | Sequence[str]) -> Mapping[str, str]:
    """Group -> recipe, of the groups that a candidate has.

    Raises:
        CostError: a precision that the device cannot run.
    """
    blocks = workload(candidate).sub_blocks
    return {group_of(block): recipe_for(block, recipes) for block in blocks}
