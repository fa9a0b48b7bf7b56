"""Export: a finished network as an ONNX file in its candidate's own precision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from safetensors.torch import save

from ..cost_models import Device
from ..cost_models.build import network as random_network
from ..cost_models.graphs import to_onnx
from ..cost_models.recipes import apply_recipes
from ..spaces import Candidate
from ..spaces.networks import Network
from .compress import deliverable
from .data import Data, resized
from .files import write_atomic

CANDIDATE, ONNX, WEIGHTS, MANIFEST = (
    "candidate.json",
    "model.onnx",
    "model.safetensors",
    "manifest.json",
)


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
    recipes: Mapping[str, str],
    device: Device,
    data: Data,
    calibration_images: int,
) -> None:
    """Write candidate, weights and ONNX file of a finished network; the last one written is ONNX.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written.
    """
    images = data.split("train").images[:calibration_images]
    images = resized(images, candidate.architecture.input_size).numpy()
    preprocessing = Preprocessing.of(data)
    model = to_graph(
        candidate, deliverable(network, candidate), recipes, device.batch, images, preprocessing
    )
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    write_atomic(folder / WEIGHTS, save(network.state_dict()))
    write_atomic(folder / ONNX, model.SerializeToString())


def export_random(folder: Path, candidate: Candidate, device: Device) -> None:
    """Write candidate and ONNX file with random weights, for latency work.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written.
    """
    a = candidate.architecture
    shape = (max(8, device.batch), a.in_chans, a.input_size, a.input_size)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    model = to_graph(candidate, random_network(candidate), device.recipes, device.batch, images)
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    write_atomic(folder / ONNX, model.SerializeToString())


def to_graph(
    candidate: Candidate,
    network: Network,
    recipes: Mapping[str, str] | Sequence[str],
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
    about = {"key": candidate.key, "input_size": a.input_size}
    if preprocessing is not None:
        about |= {
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "class_names": preprocessing.class_names,
        }
    onnx.helper.set_model_props(
        model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()}
    )
    onnx.checker.check_model(model)
    return model
