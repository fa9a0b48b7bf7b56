"""Programs of ExecuTorch: converted from the ONNX graph of the same build, with metadata inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ....cost_models import Device
from ....cost_models.executorch.reading import LINEAR, is_whole, read_file
from ....cost_models.runtimes import find_runtime
from ....spaces.errors import RunError
from ..build import Build
from ..kernel_inventory import Inventory, Linear
from ..preprocessing import Preprocessing
from ..program import executorch
from ..program.assemble import program
from . import PREDICT, Format
from .onnx import encode


def companions(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Give a program that classifies images with the file."""
    return {PREDICT: program(device, executorch)}


def inspect(content: bytes, executed: Mapping[str, int], runtime: str) -> Inventory:
    """The inventory of a file, whose layers have no names."""
    nodes = read_file(content).nodes
    layers = [
        Linear(str(place), node.kind, node.weights, "int8" if node.integers else "float32")
        for place, node in enumerate(nodes)
        if node.kind in LINEAR
    ]
    wanted = sum(layer.computes == "int8" for layer in layers)
    missing = max(0, wanted - find_runtime(runtime).integers(executed))
    counts = Counter(node.kind for node in nodes)
    return Inventory(dict(counts), dict(executed), layers, {}, missing, {})


def check(content: bytes) -> None:
    """Check that a file is whole.

    Raises:
        RunError: it is damaged.
    """
    if not is_whole(content):
        raise RunError("damaged: not a program of ExecuTorch, or a part of it is missing")


EXECUTORCH = Format("model.pte", encode, companions, inspect, check, predicted=True)
