"""Operators: which of ONNX can be written for ncnn, and by what."""

from __future__ import annotations

from .conversion import Writer
from .elementwise import ELEMENTWISE
from .layers import LAYERS
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
