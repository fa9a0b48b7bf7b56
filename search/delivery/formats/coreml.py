"""The format of Core ML: an ML program made of the ONNX graph of the same build."""

from __future__ import annotations

from ....cost_models.coreml.package import FOLDER, read_program
from ....spaces.errors import CostError, RunError
from . import Format
from .onnx import encode
from .rounded import weights_alone


def check(content: bytes) -> None:
    """Check that a file is whole.

    Raises:
        RunError: it is damaged, or another one.
    """
    try:
        read_program(content)
    except CostError as error:
        raise RunError(f"damaged: {error}") from error


COREML = Format(f"{FOLDER}.zip", encode, check=check, recipes=weights_alone, predicted=True)
