"""The format of MNN: converted from the ONNX graph of the same build, with metadata inside.

Rounded weights are kept in float32, since what MNN makes of integers is slower than floats.
"""

from __future__ import annotations

from ....cost_models import Device
from ....cost_models.mnn.fields import about_of
from ....spaces.errors import CostError, RunError
from ..build import Build
from ..preprocessing import Preprocessing
from ..program import mnn
from ..program.assemble import program
from . import PREDICT, Format
from .onnx import encode
from .rounded import weights_alone


def companions(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Give a program that classifies images with the file."""
    return {PREDICT: program(device, mnn)}


def check(content: bytes) -> None:
    """Check that a file says what it is.

    Raises:
        RunError: it is damaged, or another one.
    """
    try:
        about_of(content)
    except CostError as error:
        raise RunError(f"damaged: {error}") from error


MNN = Format("model.mnn", encode, companions, check=check, recipes=weights_alone, predicted=True)
