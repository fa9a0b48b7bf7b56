"""Conversion: what is known of an ONNX graph while it is written as an ML program of Core ML."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...spaces.errors import MissingRuntimeError
from ..onnx_reading import OnnxReading
from ..stored_weights import StoredWeights

MOST = 5  # axes of a tensor in Core ML
Node = onnx.NodeProto


def tools() -> Any:
    """The library, which otherwise warns of all that it can do on a Mac alone.

    Raises:
        MissingRuntimeError: it cannot be loaded. It loads ExecuTorch where it finds one, and fails
            where that lacks what its exporter needs.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        return import_module("coremltools")
    except ImportError as error:
        raise MissingRuntimeError(
            f"coremltools cannot be loaded with what is installed beside it: {error}"
        ) from error


class Conversion(OnnxReading):
    """One conversion: the values of the ONNX graph that have been made so far.

    A value of more axes than Core ML has is only written where it is moved and split: its elements
    lie one after the other, with whatever axes suit, until a Reshape gives it fewer.

    Attributes:
        mb: what writes operators of an ML program.
    """

    target = "Core ML"

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, StoredWeights]) -> None:
        super().__init__(model, weights)
        tools()
        self.mb: Any = import_module("coremltools.converters.mil").Builder
        self._values: dict[str, Any] = {}

    @property
    def ends(self) -> tuple[str, str]:
        """Names of the input and of the output."""
        return self._input.name, self._output.name

    def give(self, name: str, value: Any) -> None:
        """A value of the ONNX graph is made."""
        self._values[name] = value

    def flat(self, name: str) -> Any:
        """A value with its elements in order, whatever its axes."""
        return self.constant(name) if name in self.constants else self._values[name]

    def read(self, node: Node, name: str) -> Any:
        """A value as ONNX has it.

        Raises:
            CostError: it has more axes than Core ML.
        """
        rank = len(self.shape(name))
        if rank > MOST:
            raise self.refusal(node, f"reads {rank} axes; Core ML has {MOST}")
        return self.flat(name)

    def constant(self, name: str) -> NDArray[Any]:
        """A constant in a type that Core ML has."""
        value = self.constants[name]
        return value.astype(np.float32 if value.dtype.kind == "f" else np.int32)

    def reshaped(self, value: Any, shape: Sequence[int]) -> Any:
        """The same elements with other axes, as many as Core ML has."""
        shape = tuple(int(n) for n in shape)
        if tuple(value.shape) == shape:
            return value
        assert prod(shape) == prod(value.shape)
        return self.mb.reshape(x=value, shape=np.array(shape, np.int32))

    def give_flat(self, node: Node, value: Any) -> None:
        """A node gives the elements of a value in the same order."""
        name = node.output[0]
        shape = self.shape(name)
        self.give(name, self.reshaped(value, shape) if 0 < len(shape) <= MOST else value)

    def weight(self, name: str, turned: bool = False) -> Any:
        """A layer's weights (outputs, inputs, ...), stored as the recipe says."""
        stored = self.stored(name)
        if stored is None:
            value = self.constant(name)
            return value.T if turned else value
        # Those of a linear layer are kept as (inputs, outputs).
        values = stored.values.T if stored.values.ndim == 2 else stored.values
        if stored.scale is None:
            return values.astype(np.float32)
        scale = np.broadcast_to(stored.scale.reshape(-1), len(values)).astype(np.float32)
        return self.mb.constexpr_affine_dequantize(
            quantized_data=values.astype(np.int8), zero_point=np.int8(0), scale=scale, axis=0
        )


Writer = Callable[[Conversion, Node], None]
