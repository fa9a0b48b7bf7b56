"""Convert: an ONNX graph as a TFLite file, operator by operator.

Only what networks of this package are made of is converted, with static shapes. Images are
channels last in the file, as TFLite has them; so are results of four axes.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

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
    return convert(Conversion(model, weights or {})).encode(about or {})


def convert(conversion: Conversion) -> Conversion:
    """A conversion that has written every operator.

    Raises:
        CostError: an operator that has no conversion, by name.
    """
    for node in conversion.nodes:
        if conversion.is_absorbed(node):
            continue
        if node.op_type not in OPERATORS:
            raise conversion.refusal(node, "has no conversion")
        OPERATORS[node.op_type](conversion, node)
    return conversion
