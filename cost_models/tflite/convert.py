"""Convert: an ONNX graph as a TFLite file, operator by operator.

Only what networks of this package are made of is converted, with static shapes. Images are
channels last in the file, as TFLite has them; so are results of four axes.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ..onnx_reading import write_operators
from ..stored_weights import StoredWeights
from .conversion import Conversion
from .operators import OPERATORS


def to_tflite(
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeights] | None = None,
    about: Mapping[str, str] | None = None,
) -> bytes:
    """A TFLite file.

    Args:
        model: a graph in float32 with one input and one output, as `graphs.to_onnx` makes it.
        weights: how layers are stored, by the name of their weight in the graph; the others in
            float32.
        about: texts by name, kept in the file.

    Raises:
        CostError: an operator that has no conversion, by name.
    """
    return write_operators(Conversion(model, weights or {}), OPERATORS).encode(about or {})
