"""TFLite: converted from the ONNX graph of the same build, with metadata inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from ....cost_models import Device
from ....cost_models.runtimes import find_runtime
from ....cost_models.tflite.reading import TfliteFile, read_file
from ....spaces.errors import CostError, RunError
from ..build import Build
from ..kernel_inventory import Inventory, Linear
from ..page import RUNTIMES, page
from ..preprocessing import Preprocessing
from ..program import litert
from ..program.assemble import program
from . import PREDICT, Format
from .onnx import encode

LINEAR = ("FULLY_CONNECTED", "CONV_2D")
INTEGERS = ("int8", "int4")
CPU = "CPU"  # where the program runs what a page does


def companions(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Give a program that classifies images with the file, and for browsers a page, too."""
    if device.runtime not in RUNTIMES:
        return {PREDICT: program(device, litert)}
    here = replace(device, provider=CPU)
    shown = page(build.candidate, device, preprocessing, TFLITE.file)
    return {PREDICT: program(here, litert), **shown}


def inspect(content: bytes, executed: Mapping[str, int], runtime: str) -> Inventory:
    """The inventory of a file."""
    file = read_file(content)
    layers = list(_linears(file))
    wanted = sum(layer.computes == "int8" for layer in layers)
    missing = max(0, wanted - find_runtime(runtime).integers(executed))
    stored = Counter(operator.kind for operator in file.operators)
    return Inventory(dict(stored), dict(executed), layers, {}, missing, {})


def check(content: bytes) -> None:
    """Check that a file is self-contained.

    Raises:
        RunError: it is damaged, or keeps tensors in other files, which are not trusted.
    """
    try:
        file = read_file(content)
    except CostError as error:
        raise RunError(f"damaged: {error}") from error
    if file.external:
        raise RunError("keeps tensors in another file, which is not followed")


def _linears(file: TfliteFile) -> list[Linear]:
    """Layers with constant weights; a weight that is made floats first is multiplied as such."""
    made = {tensor: operator for operator in file.operators for tensor in operator.outputs}
    layers: list[Linear] = []
    for operator in file.operators:
        if operator.kind not in LINEAR:
            continue
        weight = operator.inputs[1]
        floats = weight in made
        tensor = file.tensors[made[weight].inputs[0] if floats else weight]
        computes = "int8" if tensor.kind in INTEGERS and not floats else "float32"
        name = tensor.name.rpartition(".")[0]
        layers.append(Linear(name, operator.kind, tensor.kind, computes))
    return layers


TFLITE = Format("model.tflite", encode, companions, inspect, check, predicted=True)
