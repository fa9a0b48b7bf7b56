"""Features: a delivered model without its head, whose maps a detector or segmenter stands on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from ...cost_models import Device
from ...cost_models.graphs.modules import input_shape
from ...cost_models.graphs.to_onnx import to_onnx
from ...cost_models.runtime_spec import ONNX, find_runtime
from ...cost_models.runtimes.onnxruntime import outputs_of
from ...cost_models.standalone.seal import hashes_of
from ...spaces.errors import ConfigError, RunError
from ...spaces.networks.backbone import Backbone, feature_maps
from ...spaces.networks.refit import resized_network
from ..compress.network import compressible, run_each
from ..data.dataset import Data, resized
from ..store.atomic_files import write_atomic
from .artifact import CANDIDATE, WEIGHTS, load_network, read_candidate
from .build import Build
from .export import build_for
from .formats.onnx import encode_graph
from .handover import device_of, fill, verified_folder
from .manifest import Manifest
from .preprocessing import Preprocessing, metadata

ABOUT = "features.json"
STATUS = "not verified itself: the classifier that it was part of is"
CLOSE = 1e-4  # mean difference to torch, relative to the mean value
LIKE = 0.1  # likewise where activations are rounded


def export_features(
    pareto: Path,
    data: Callable[[], Data],
    chosen: Manifest,
    runtime: str | None,
    input_size: int | None,
    out: Path,
) -> Path:
    """Export what the stages of a delivered model give, in its own precision.

    Args:
        pareto: folder of a run's delivered models.
        data: loads the images of the run, for calibration and to compare answers.
        chosen: the one, such as `pick_model` finds.
        runtime: that of the run's device by default; one that reads ONNX.
        input_size: of images; that of the model by default, else positions are interpolated.
        out: folder in which the model gets its own.

    Returns:
        Path of the ONNX file; beside it are its weights, its candidate, and `features.json` with
        stride, channels and size of each output.

    Raises:
        ConfigError: a runtime that does not read ONNX, or no such runtime.
        RunError: a file has changed since it was verified, the folder exists, or the maps differ
            from torch's.
        SpaceError: a model that drops tokens, or that takes no images of this size.
    """
    source = verified_folder(pareto, chosen)
    device = _reader_of_onnx(chosen.device if runtime is None else device_of(runtime))
    candidate, network = read_candidate(source), load_network(source)
    a = candidate.architecture
    feature_maps(a)  # refused before images are read
    network = resized_network(network, input_size or a.input_size, a.patch_size)
    candidate = replace(candidate, architecture=network.architecture)
    seen, images = data(), chosen.calibration_images
    recipes = chosen.recipes if device == chosen.device else device.recipes
    build = build_for(device, candidate, network, recipes, seen, images, chosen.compensated)
    look = chosen.preprocessing
    if input_size and look.look:  # else images would be made small, and then large
        look = replace(look, look=replace(look.look, size=input_size))
    return fill(out / f"{chosen.key}-features", partial(_write, build, device, seen, chosen, look))


def _write(
    build: Build,
    device: Device,
    data: Data,
    chosen: Manifest,
    preprocessing: Preprocessing,
    folder: Path,
) -> str:
    candidate, backbone = build.candidate, Backbone.of(build.ready)
    maps = feature_maps(candidate.architecture)
    names = [m.name for m in maps]
    graph = to_onnx(backbone, input_shape(candidate, device.batch), outputs=names)
    look = metadata(candidate, preprocessing)
    content = encode_graph(graph, build, device, preprocessing)
    distance = _distance(build, backbone, content, data, device.batch)
    write_atomic(folder / "model.onnx", content)
    write_atomic(folder / CANDIDATE, candidate.to_json() + "\n")
    write_atomic(folder / WEIGHTS, save(build.network.state_dict()))
    facts = {
        "key": chosen.key,
        "outputs": [asdict(m) for m in maps],
        "input": {"shape": input_shape(candidate, device.batch), **look},
        "distance_to_torch": distance,
        "verified": False,
        "status": STATUS,
        "files": hashes_of(folder, ["model.onnx", CANDIDATE, WEIGHTS]),
    }
    write_atomic(folder / ABOUT, json.dumps(facts, indent=1) + "\n")
    return "model.onnx"


@torch.no_grad()
def _distance(build: Build, backbone: Backbone, content: bytes, data: Data, batch: int) -> float:
    """Largest distance of a map in the file to torch's, relative to its values.

    Raises:
        RunError: it is too far.
    """
    candidate, params = build.candidate, backbone.state_dict()
    images = data.split("validation").some(batch).images
    images = images[torch.arange(batch) % len(images)]  # too few come again
    images = resized(images, candidate.architecture.input_size)
    layers = compressible(backbone, candidate, build.recipes)
    (expected,) = run_each(backbone, params, layers, [images], build.seen)
    found = outputs_of(content, images.numpy())
    distances = [
        float(np.abs(a - b.numpy()).mean() / b.abs().mean().item())
        for a, b in zip(found, expected, strict=True)
    ]
    most = CLOSE if build.exact else LIKE
    far = next(
        (d for d in distances if not d <= most), max(distances)
    )  # also one that is no number
    if not far <= most:
        raise RunError(
            f"features: the maps in the file are {far:.2g} away from torch's, relative to their "
            f"values, and {most:g} is allowed: nothing was written"
        )
    return far


def _reader_of_onnx(device: Device) -> Device:
    """The device, if its runtime reads ONNX.

    Raises:
        ConfigError: it does not.
    """
    if find_runtime(device.runtime).format != ONNX:
        raise ConfigError(
            f"--features: {device.runtime} does not read ONNX files, in which maps are exported: "
            "take --runtime onnxruntime or openvino"
        )
    return device
