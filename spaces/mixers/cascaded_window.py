"""Cascaded attention inside windows, with a bias by how far tokens are apart."""

from __future__ import annotations

from dataclasses import replace

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .cascaded import SPEC as CASCADED
from .cascaded import cascade
from .window import WINDOW_FITS, WINDOW_SIZE, padded, side_of


def attention(place: Place) -> list[Op]:
    """Every token sees those of its window; zeros that fill it take part, as in EfficientViT."""
    seen, (rows, columns) = side_of(place) ** 2, padded(place)
    pairs = rows * columns * seen
    biases = [ops.elementwise(pairs, 2, others=seen)] if place.relative else []
    return cascade(place, rows * columns, seen, biases)


def constants(place: Place) -> int:
    """Biases gathered from their tables, beyond these."""
    seen = side_of(place) ** 2
    return place.block.num_groups * (seen**2 - seen) if place.relative else 0


SPEC = replace(
    CASCADED,
    module=".cascaded_window:CascadedWindowAttention",
    ops=attention,
    example=Block("cascaded_window", num_groups=4, key_dim=16, kernel_size=5, window_size=7),
    numbers=(*CASCADED.numbers, WINDOW_SIZE),
    rules=(*CASCADED.rules, WINDOW_FITS),
    relative=True,
    coordinates=lambda place: {
        **{name: getattr(place.block, name) for name in CASCADED.fields},
        "window": side_of(place),
    },
    constants=constants,
)
