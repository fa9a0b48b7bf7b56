"""Formats: model files that runtimes read, each in a file of this folder.

A plugin adds one by an entry point of the group "vitpareto.formats"; its runtime names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ....cost_models import Device
from ....cost_models.runtimes import find_runtime
from ....cost_models.units.precision_recipes import Book
from ....spaces import Candidate
from ....spaces.registry import Registry
from ..build import Build
from ..kernel_inventory import Inventory
from ..preprocessing import Preprocessing

Recipes = Book | Sequence[str]
PREDICT = "predict.py"  # program that classifies images with a model


def _alone(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    return {}


def _kernels(content: bytes, executed: Mapping[str, int], runtime: str) -> Inventory:
    return Inventory({}, dict(executed), [], {})


def _unchecked(content: bytes) -> None:
    return


def _as_given(candidate: Candidate, recipes: Recipes) -> Recipes:
    return recipes


@dataclass(frozen=True)
class Format:
    """A kind of model file, and how it is written and read.

    Attributes:
        file: name of the model's file.
        encode: (build, device, preprocessing) -> its content, which holds the preprocessing if
            that is given.
        companions: the same -> content of the files that are delivered beside it, by name.
        inspect: (content, executed kernels, runtime) -> inventory; by default only the kernels
            are known.
        check: (content) -> None; raises RunError for what must not be given to a runtime.
        recipes: (candidate, recipes of its device) -> those by which it is stored.
        predicted: whether cost models predict size and memory of such files.
    """

    file: str
    encode: Callable[[Build, Device, Preprocessing | None], bytes]
    companions: Callable[[Build, Device, Preprocessing | None], Mapping[str, bytes | str]] = _alone
    inspect: Callable[[bytes, Mapping[str, int], str], Inventory] = _kernels
    check: Callable[[bytes], None] = _unchecked
    recipes: Callable[[Candidate, Recipes], Recipes] = _as_given
    predicted: bool = False


FORMATS: Registry[Format] = Registry(
    "format",
    {
        "onnx": ".onnx:ONNX",
        "tflite": ".tflite:TFLITE",
        "ncnn": ".ncnn:NCNN",
        "executorch": ".executorch:EXECUTORCH",
        "mnn": ".mnn:MNN",
        "coreml": ".coreml:COREML",
        "qnn": ".qnn:QNN",
        "torchscript": ".torchscript:TORCHSCRIPT",
    },
    __package__ or "",
)


def format_of(device: Device) -> Format:
    """The format that a device's runtime runs.

    Raises:
        UnknownNameError: no format has the name that the runtime gives.
    """
    return FORMATS.find(find_runtime(device.runtime).format)
