"""The format of QNN: a static ONNX graph, and beside it the binary of the NPU that it becomes.

Where no weight is rounded the graph is in float32, which NPUs compute in float16. Where one is, all
of it is in integers, of weights in 8 bits and activations in 16.
"""

from __future__ import annotations

from typing import cast

import onnx

from ....cost_models import Device
from ....cost_models.graphs.files import check_answers
from ....cost_models.runtimes import open_runtime
from ....cost_models.runtimes.qnn import QnnRuntime
from ....cost_models.runtimes.qnn_integers import static_integers
from ....spaces.errors import CostError
from ..build import Build
from ..preprocessing import Preprocessing
from . import Format
from .onnx import check
from .onnx import encode as encode_floats
from .rounded import weights_alone


def encode(build: Build, device: Device, preprocessing: Preprocessing | None) -> bytes:
    """Encode the graph of a build, and compare what an NPU answers with ONNX Runtime.

    Raises:
        CostError: a batch of several images, an operator that the NPU does not have, or other
            answers.
    """
    if device.batch > 1:  # of which the emulator answers the first alone as it should
        raise CostError(f"qnn: batch: an NPU takes one image at once, got {device.batch}")
    content = encode_floats(build, device, preprocessing)
    if set(weights_alone(build.candidate, build.recipes).values()) <= {"float", "fp16"}:
        return content
    model = onnx.load_model_from_string(content)
    content = static_integers(model, build.images.numpy()).SerializeToString()
    check_answers(device, content)
    return content


def companions(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Give what the graph is compiled to for the chip of a device."""
    runtime = cast(QnnRuntime, open_runtime(device))
    return {f"model.{device.provider}.onnx": runtime.binary(encode(build, device, preprocessing))}


QNN = Format("model.qnn.onnx", encode, companions, check=check, recipes=weights_alone)
