"""LiteRT (TensorFlow Lite) on the processor, with the fast kernels of XNNPACK where it has some."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..runtime_spec import RuntimeSpec
from ..standalone.energy_meter import PROCESSOR
from ..standalone.litert_graph import MULTIPLIES, kernels_of
from ..stored_weights import StoredWeights
from . import Source
from .converting import Converting, channels_first, refusal

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]


class LiteRtModel:
    """One interpreter."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        interpreter.allocate_tensors()
        (given,), (answer, *_) = interpreter.get_input_details(), interpreter.get_output_details()
        self._given, self._answer = given["index"], answer["index"]
        self._shape = [int(n) for n in given["shape"]]

    @property
    def input_shape(self) -> list[int]:
        """Shape of the one input; images have their channels first, as everywhere here."""
        return channels_first(self._shape)

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> outputs.

        The file has images with their channels last: those that lie so in memory are not copied.
        """
        given = images.transpose(0, 2, 3, 1) if images.ndim == 4 else images
        self._interpreter.set_tensor(self._given, given)
        self._interpreter.invoke()
        answer = self._interpreter.get_tensor(self._answer)
        return answer.transpose(0, 3, 1, 2) if answer.ndim == 4 else answer

    def kernels(self) -> dict[str, int]:
        """Executed operators with what they multiply, "plain" ones without a kernel of XNNPACK."""
        return kernels_of(self._interpreter)

    def memory_mb(self) -> None:
        """LiteRT does not say; `footprint` measures it from outside."""
        return


class LiteRtRuntime(Converting):
    """Converts ONNX graphs, and runs what it converted on a number of threads."""

    def __init__(self, device: Device) -> None:
        self._interpreter: Any = import_module("ai_edge_litert.interpreter").Interpreter
        self._threads = device.threads

    def compile(self, model: Source) -> LiteRtModel:
        """Open an interpreter.

        Raises:
            CostError: LiteRT refuses the file.
        """
        content = self.content(model)
        key = "model_content" if isinstance(content, bytes) else "model_path"
        try:
            return LiteRtModel(self._interpreter(**{key: content}, num_threads=self._threads))
        except (ValueError, RuntimeError) as error:
            raise refusal("LiteRT", "file", error) from error

    def convert(
        self,
        model: onnx.ModelProto,
        weights: Mapping[str, StoredWeights],
        about: Mapping[str, str],
    ) -> bytes:
        """Make a TFLite file of a float graph.

        Raises:
            CostError: an operator that has no conversion.
        """
        from ..tflite.convert import to_tflite

        return to_tflite(model, weights, about)


SPEC = RuntimeSpec(
    name="litert",
    distributions=("ai-edge-litert",),
    install="vitpareto[litert]",
    format="tflite",
    chips={"CPU": PROCESSOR},
    open=LiteRtRuntime,
    integer_kernels=tuple(f"*{name}:int*" for name in MULTIPLIES),
    converts=True,
    recipes=("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4"),
    channels_last=True,
    tested=("2.1", "2.3"),
)
