"""Bits of weights and activations, and their scales: a device's recipes turn them into kernels."""

from __future__ import annotations

from ..compression import INTEGER_BITS
from .transform import Transform

BITS = (2, 3, 4, 5, 6, 7, 8, 16, 32)
STOPS = (2, 3, 4, 6, 8, 32)  # between a weight's own bits and float, on the way down and back up


def lowered(bits: int, done: float) -> int:
    """Bits at a point of the ramp: float at first, then down the stops in steps of equal length.

    Lowered at once to 4 a network may not recover.

    >>> [lowered(4, done / 6) for done in range(7)]
    [32, 32, 8, 8, 6, 6, 4]
    """
    if bits > INTEGER_BITS:
        return bits
    ladder = [*(stop for stop in reversed(STOPS) if stop > bits), bits]
    return ladder[min(int(done * (len(ladder) - 1) + 1e-9), len(ladder) - 1)]


def raised(bits: int) -> int:
    """The next stop above."""
    return next(stop for stop in STOPS if stop > bits)


WEIGHT_BITS = Transform(
    "weight_bits",
    32,
    "bits of a weight; 16 and 32 are floats",
    values=BITS,
    on="rounding",
    ramp=lowered,
    back=raised,
    bits=lambda _, value: value,
)
# Rounded as soon as weights are integers; float again in one step.
ACT_BITS = Transform(
    "act_bits",
    32,
    "bits of the activations that enter linear layers; needs integer weights",
    values=BITS,
    on="rounding",
    most_bits=INTEGER_BITS,
)
# What holds a policy with these is a recipe of that kind; kernels have blocks for 4 bits alone.
WEIGHT_SCALES = Transform(
    "weight_scales",
    "",
    "what shares a scale of integer weights; left to the device by default",
    values=("", "channel", "tensor", "block32", "block64", "block128"),
    on="rounding",
    most_bits=INTEGER_BITS,
)
