"""Convert: an ONNX graph as a file of ncnn, operator by operator.

Only what networks of this package are made of is converted, with static shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ..onnx_ranking import without_top_k
from ..onnx_reading import write_operators
from ..stored_weights import StoredWeights
from .conversion import Conversion
from .operators import OPERATORS


def to_ncnn(
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeights] | None = None,
    about: Mapping[str, str] | None = None,
) -> bytes:
    """A file of ncnn.

    Args:
        model: a graph in float32 with one input and one output, as `graphs.to_onnx` makes it.
        weights: how layers are stored, by the name of their weight in the graph; the others in
            float32.
        about: JSON by name, kept in the file.

    Raises:
        CostError: an operator that has no conversion, by name.
    """
    conversion = Conversion(without_top_k(model), weights or {})
    return write_operators(conversion, OPERATORS).encode(about or {})
