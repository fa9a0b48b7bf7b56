"""Formats: the files that runtimes read, with all that a user must know inside them."""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
import torch

from ...cost_models import Device
from ...cost_models.graphs.modules import input_shape
from ...cost_models.graphs.quantize import apply_recipes
from ...cost_models.graphs.to_onnx import to_onnx
from ...cost_models.runtimes import torch as torch_runtime
from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from ..compress.network import compressed, compressible
from ..data.dataset import Data

ABOUT = "about.json"  # extra file of torch's formats


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


def to_model(
    candidate: Candidate,
    delivered: Network,
    recipes: Book | Sequence[str],
    device: Device,
    images: np.ndarray,
    preprocessing: Preprocessing | None = None,
) -> bytes:
    """The file that a device's runtime runs: ONNX, or TorchScript.

    Args:
        candidate: its compression settles the precision.
        delivered: from `ready`.
        recipes: what the device runs each precision with.
        device: with runtime and batch.
        images: (N, C, S, S), from which activation ranges are taken.
        preprocessing: goes into the metadata.

    Raises:
        CostError: a precision that the device cannot run.
    """
    if device.runtime == "torch":
        return to_torchscript(candidate, delivered, device.batch, preprocessing)
    model = to_graph(candidate, delivered, recipes, device.batch, images, preprocessing)
    return model.SerializeToString()


@torch.no_grad()
def to_torchscript(
    candidate: Candidate, delivered: Network, batch: int, preprocessing: Preprocessing | None
) -> bytes:
    """A frozen TorchScript module, its metadata in the extra file `about.json`.

    Weights are rounded as their policies say; torch computes with them in float32.
    """
    network, stream = rounded(candidate, delivered), io.BytesIO()
    example = torch.zeros(input_shape(candidate, batch))
    extra = {
        ABOUT: json.dumps(metadata(candidate, preprocessing)),
        torch_runtime.SHAPE: json.dumps(example.shape),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's future, and of tracing
        module = torch.jit.freeze(torch.jit.trace(network, (example,)))
        torch.jit.save(module, stream, _extra_files=extra)
    return stream.getvalue()


@torch.no_grad()
def to_program(
    candidate: Candidate, delivered: Network, batch: int, preprocessing: Preprocessing | None
) -> bytes:
    """The same as a `torch.export` program, which torch's own compilers read."""
    network, stream = rounded(candidate, delivered), io.BytesIO()
    example = torch.zeros(input_shape(candidate, batch))
    extra = {ABOUT: json.dumps(metadata(candidate, preprocessing))}
    torch.export.save(torch.export.export(network, (example,)), stream, extra_files=extra)
    return stream.getvalue()


def rounded(candidate: Candidate, delivered: Network) -> Network:
    """A copy in evaluation mode with the weights that will be stored."""
    network = copy.deepcopy(delivered).eval()
    network.load_state_dict(compressed(network.state_dict(), compressible(network, candidate)))
    return network


def to_graph(
    candidate: Candidate,
    network: Network,
    recipes: Book | Sequence[str],
    batch: int,
    images: np.ndarray,
    preprocessing: Preprocessing | None = None,
) -> onnx.ModelProto:
    """The candidate's ONNX graph, quantized by recipes, with its metadata.

    Args:
        candidate: its compression settles the precision.
        network: folded and factored, with the weights to deliver.
        recipes: what the device runs each precision with.
        batch: images of one run.
        images: (N, C, S, S), from which activation ranges are taken.
        preprocessing: goes into the metadata.
    """
    # The exporter that calibration used, so that the graph is the one that was measured.
    graph = to_onnx(network, input_shape(candidate, batch))
    model = apply_recipes(graph, candidate, recipes, images)
    about = metadata(candidate, preprocessing)
    onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in about.items()})
    onnx.checker.check_model(model)
    return model


def metadata(candidate: Candidate, preprocessing: Preprocessing | None) -> dict[str, object]:
    """What travels inside a model's file, by name."""
    found: dict[str, object] = {
        "key": candidate.key,
        "input_size": candidate.architecture.input_size,
    }
    return found | (asdict(preprocessing) if preprocessing else {})
