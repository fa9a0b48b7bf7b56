"""Passes that artifacts do not follow yet: listed and callable, but no choices of a space."""

from __future__ import annotations

from .transform import Transform

WEIGHT_ZERO = Transform(
    "weight_zero",
    False,
    "integer weights have a zero point, so that all their values are used",
    values=(False, True),
    on="rounding",
    apply=".grids:with_zero_point",
    searched=False,
)
REWRITE = Transform(
    "rewrite",
    "",
    "a part of the network in other operations, exactly or (_naive) nearly the same",
    values=(
        "",
        "layer_to_rms",
        "layer_to_rms_naive",
        "group_to_instance",
        "group_to_instance_naive",
        "hardswish_to_relu6",
        "hardswish_to_relu6_naive",
    ),
    on="graph",
    apply=".rewrites:rewritten",
    searched=False,
)
