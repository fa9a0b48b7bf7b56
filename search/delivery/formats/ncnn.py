"""The format of ncnn: converted from the ONNX graph of the same build, with metadata beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ....cost_models import Device
from ....cost_models.ncnn.reading import LINEAR, read_file
from ....cost_models.runtimes import find_runtime
from ....spaces.errors import CostError, RunError
from ..build import Build
from ..kernel_inventory import Inventory, Linear
from ..preprocessing import Preprocessing
from ..program import ncnn
from ..program.assemble import program
from . import PREDICT, Format
from .onnx import encode


def companions(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Give a program that classifies images with the file."""
    return {PREDICT: program(device, ncnn)}


def inspect(content: bytes, executed: Mapping[str, int], runtime: str) -> Inventory:
    """The inventory of a file."""
    stored = read_file(content).layers
    layers = [
        Linear(layer.name, layer.kind, layer.weights, _computes(layer.weights))
        for layer in stored
        if layer.kind in LINEAR
    ]
    wanted = sum(layer.computes == "int8" for layer in layers)
    missing = max(0, wanted - find_runtime(runtime).integers(executed))
    counts = Counter(layer.kind for layer in stored)
    return Inventory(dict(counts), dict(executed), layers, {}, missing, {})


def check(content: bytes) -> None:
    """Check that a file is whole.

    Raises:
        RunError: it is damaged.
    """
    try:
        read_file(content)
    except CostError as error:
        raise RunError(f"damaged: {error}") from error


def _computes(stored: str) -> str:
    """Integers are multiplied where they are stored as such; from tables they come as floats."""
    return "int8" if stored == "int8" else "float32"


NCNN = Format("model.ncnn.zip", encode, companions, inspect, check, predicted=True)
