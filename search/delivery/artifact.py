"""Artifact: a delivered model in its folder, checked before it is opened, run in its runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from safetensors import SafetensorError
from safetensors.torch import load

from ...cost_models import Device
from ...cost_models.graphs.modules import input_shape
from ...cost_models.runtimes import Compiled, find_runtime, open_runtime
from ...spaces import Candidate
from ...spaces.errors import CostError, RunError, SpaceError
from ...spaces.networks import Network
from ..data.dataset import Split, resized
from .kernel_inventory import computes_with_integers

CANDIDATE, ONNX, WEIGHTS, PREDICT, MANIFEST = (
    "candidate.json",
    "model.onnx",
    "model.safetensors",
    "predict.py",
    "manifest.json",
)
TORCHSCRIPT = "model.torchscript.pt"


@dataclass(frozen=True)
class Artifact:
    """A delivered model, loaded in its runtime.

    Attributes:
        folder: with its files.
        candidate: what it is.
        file: name of the model in it, as `model_file`.
        content: of that file.
        compiled: ready to run.
        batch: images of one run.
        runtime: that compiled it.
    """

    folder: Path
    candidate: Candidate
    file: str
    content: bytes
    compiled: Compiled
    batch: int
    runtime: str

    @classmethod
    def load(cls, folder: Path, device: Device) -> Artifact:
        """Load an artifact for a device.

        Raises:
            RunError: a file is missing, or is not what its name says.
            CostError: the runtime refuses the graph.
            MissingRuntimeError: it is not installed here.
        """
        candidate, file = read_candidate(folder), model_file(device)
        content = read_model(folder / file) if file == ONNX else _read(folder / file)
        runtime = open_runtime(device)
        try:
            compiled = runtime.compile(content)
        except CostError as error:
            raise CostError(f"{folder / file}: {error}") from error
        return cls(folder, candidate, file, content, compiled, device.batch, device.runtime)

    def logits(self, split: Split) -> torch.Tensor:
        """Logits from the runtime, batch by batch as it will be used: (N, K)."""
        images = resized(split.images, self.candidate.architecture.input_size).numpy()
        missing = -len(images) % self.batch
        padded = np.concatenate([images, images[:missing]])
        runs = [self.compiled.run(x) for x in np.split(padded, len(padded) // self.batch)]
        return torch.from_numpy(np.concatenate(runs)[: len(images)])

    @cached_property
    def kernels(self) -> Mapping[str, int]:
        """How often the runtime executes each kernel."""
        return self.compiled.kernels()

    @property
    def exact(self) -> bool:
        """Whether everything is computed in float32: logits must then be torch's."""
        return self.file == TORCHSCRIPT or not (
            computes_with_integers(self.candidate)
            or find_runtime(self.runtime).rounds(self.kernels)
        )

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of one run."""
        return input_shape(self.candidate, self.batch)

    @property
    def size_mb(self) -> float:
        """Size of the model's file in megabytes of 10^6 bytes."""
        return len(self.content) / 1e6


def model_file(device: Device) -> str:
    """Name of the file that a device's runtime runs."""
    return TORCHSCRIPT if device.runtime == "torch" else ONNX


def load_network(folder: str | Path) -> Network:
    """The trained network of an artifact, plain torch, weights in float.

    Raises:
        RunError: a file is missing, or is not what its name says.
    """
    folder = Path(folder)
    architecture = read_candidate(folder).architecture
    with torch.random.fork_rng(devices=[]):
        network = Network(architecture).eval()
    try:
        network.load_state_dict(load(_read(folder / WEIGHTS)))
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{folder / WEIGHTS}: not the weights of its candidate: {first}") from error
    return network


def read_candidate(folder: Path) -> Candidate:
    """The candidate of an artifact.

    Raises:
        RunError: the file is missing, or holds none.
    """
    path = folder / CANDIDATE
    try:
        return Candidate.from_json(_read(path).decode(errors="replace"))
    except SpaceError as error:
        raise RunError(f"{path}: {error}") from error


def read_model(path: Path) -> bytes:
    """An ONNX file that stands alone.

    Raises:
        RunError: it is missing or damaged, or keeps tensors in other files, which may be
            anywhere.
    """
    content = _read(path)
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise RunError(f"{path}: damaged: not an ONNX file") from error
    for tensor in tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise RunError(f"{path}: keeps {tensor.name!r} in another file, which is not followed")
    return content


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constants of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors(inner)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
