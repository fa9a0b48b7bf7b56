"""Export: a finished network as files that stand alone, in its candidate's own precision."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save
from torch import Tensor

from ..cost_models import Device, workload
from ..cost_models.build import network as random_network
from ..cost_models.graphs import to_onnx
from ..cost_models.precision import Book, group_of, recipe_for
from ..cost_models.recipes import apply_recipes
from ..spaces import Candidate
from ..spaces.errors import RunError
from ..spaces.networks import Network
from .artifact import CANDIDATE, ONNX, PREDICT, WEIGHTS
from .compress import calibrate, deliverable, run
from .compress.network import compressed, compressible
from .data import Data, Split, resized
from .evaluate import BATCH
from .files import write_atomic
from .predict_example import PROGRAM

PT2, TORCHSCRIPT = "model.pt2", "model.torchscript.pt"
FEWEST = 8  # calibration images; fixed ranges from fewer cut off what most images need


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a user of the artifact must know of its input and output.

    Attributes:
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
        class_names: one an output.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, data: Data) -> Preprocessing:
        """That of a data set."""
        return cls(data.mean, data.std, data.class_names)


def export_trained(
    folder: Path,
    candidate: Candidate,
    network: Network,
    recipes: Book | Sequence[str],
    device: Device,
    data: Data,
    calibration_images: int,
) -> tuple[str, ...]:
    """Write candidate, weights, `predict.py` and the ONNX file of a finished network.

    Returns:
        Names of the files.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written, or there are too few calibration images.
    """
    images = calibration(data, candidate, calibration_images, recipes)
    model = to_graph(
        candidate,
        deliverable(network, candidate),
        recipes,
        device.batch,
        images.numpy(),
        Preprocessing.of(data),
    )
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    write_atomic(folder / WEIGHTS, save(network.state_dict()))
    write_atomic(folder / PREDICT, PROGRAM)
    write_atomic(folder / ONNX, model.SerializeToString())
    return CANDIDATE, WEIGHTS, PREDICT, ONNX


def export_random(folder: Path, candidate: Candidate, device: Device) -> Path:
    """Write candidate and model with random weights, for latency work; the model's path.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written.
    """
    network = random_network(candidate)
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    if device.runtime == "torch":
        return export_torch(folder, candidate, network, device.batch)
    a = candidate.architecture
    shape = (max(FEWEST, device.batch), a.in_chans, a.input_size, a.input_size)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    model = to_graph(candidate, network, device.recipes, device.batch, images)
    write_atomic(folder / ONNX, model.SerializeToString())
    return folder / ONNX


@torch.no_grad()
def export_torch(folder: Path, candidate: Candidate, delivered: Network, batch: int) -> Path:
    """Write a `torch.export` program and a TorchScript module; the path of the program.

    Weights are rounded as their policies say; torch computes with them in float32.

    Args:
        folder: to write to.
        candidate: what the network is.
        delivered: folded and factored; its weights are rounded in place.
        batch: images of one run.

    Raises:
        RunError: the folder cannot be written.
    """
    a = candidate.architecture
    rounded = compressed(delivered.state_dict(), compressible(delivered, candidate))
    delivered.load_state_dict(rounded)
    example = (torch.zeros(batch, a.in_chans, a.input_size, a.input_size),)
    program, scripted = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's future, and of tracing
        torch.export.save(torch.export.export(delivered.eval(), example), program)
        traced = torch.jit.trace(delivered, example)
        assert isinstance(traced, torch.jit.ScriptModule)
        torch.jit.save(traced, scripted)
    write_atomic(folder / TORCHSCRIPT, scripted.getvalue())
    write_atomic(folder / PT2, program.getvalue())
    return folder / PT2


def to_graph(
    candidate: Candidate,
    network: Network,
    recipes: Book | Sequence[str],
    batch: int,
    images: np.ndarray,
    preprocessing: Preprocessing | None = None,
) -> onnx.ModelProto:
    """The candidate's ONNX graph, quantised by recipes, with its metadata.

    Args:
        candidate: its compression settles the precision.
        network: folded and factored, with the weights to deliver.
        recipes: what the device runs each precision with.
        batch: images of one run.
        images: (N, C, S, S), from which activation ranges are taken.
        preprocessing: goes into the metadata.
    """
    a = candidate.architecture
    shape = (batch, a.in_chans, a.input_size, a.input_size)
    # The exporter that calibration used, so that the graph is the one that was measured.
    model = apply_recipes(to_onnx(network, shape), candidate, recipes, images)
    about: dict[str, object] = {"key": candidate.key, "input_size": a.input_size}
    if preprocessing is not None:
        about |= {
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "class_names": preprocessing.class_names,
        }
    onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in about.items()})
    onnx.checker.check_model(model)
    return model


@torch.inference_mode()
def expected_logits(
    candidate: Candidate,
    network: Network,
    split: Split,
    recipes: Book | Sequence[str],
    calibration_images: Tensor,
) -> Tensor:
    """What torch says the artifact will say, rounding for rounding: (N, K).

    Args:
        candidate: its compression is applied.
        network: plain, with trained weights.
        split: of the images.
        recipes: what the device runs each precision with.
        calibration_images: those with which the artifact is calibrated.

    Raises:
        CostError: a precision that the device cannot run.
    """
    delivered = deliverable(network, candidate)
    params = delivered.state_dict()
    seen = calibrate(delivered, params, candidate, calibration_images)
    batches = resized(split.images, candidate.architecture.input_size).split(BATCH)
    return torch.cat([run(delivered, params, candidate, x, recipes, seen) for x in batches])


def calibration(
    data: Data, candidate: Candidate, count: int, recipes: Book | Sequence[str]
) -> Tensor:
    """The first train images, at the candidate's size: (N, C, S, S).

    Raises:
        CostError: a precision that the device cannot run.
        RunError: too few for fixed ranges.
    """
    images = data.split("train").images[:count]
    static = any(r.startswith("static") for r in chosen_recipes(candidate, recipes).values())
    if static and len(images) < FEWEST:
        raise RunError(
            f"export.calibration_images: static ranges need at least {FEWEST} images, "
            f"got {len(images)}"
        )
    return resized(images, candidate.architecture.input_size)


def chosen_recipes(candidate: Candidate, recipes: Book | Sequence[str]) -> Mapping[str, str]:
    """Group -> recipe, of the groups that a candidate has.

    Raises:
        CostError: a precision that the device cannot run.
    """
    blocks = workload(candidate).sub_blocks
    return {group_of(block): recipe_for(block, recipes) for block in blocks}
