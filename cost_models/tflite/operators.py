"""Operators: which of ONNX can be written in TFLite, and by what."""

from __future__ import annotations

from .elementwise import ELEMENTWISE
from .layers import LAYERS
from .node import Writer
from .norms import NORMS
from .places import PLACES
from .reductions import REDUCTIONS
from .shapes import SHAPES

OPERATORS: dict[str, Writer] = {
    **LAYERS,
    **NORMS,
    **ELEMENTWISE,
    **REDUCTIONS,
    **SHAPES,
    **PLACES,
}
