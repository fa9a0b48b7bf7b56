"""Structured pruning: whole heads and hidden units are removed."""

from __future__ import annotations

from ..mixers import Mixer
from .transform import Transform


def has_units(part: str, mixer: Mixer | None) -> bool:
    """Whether a part has heads or hidden units."""
    if mixer is None or part == "mlp":
        return mixer is not None
    return mixer.is_mlp or bool({"num_heads", "token_hidden"} & set(mixer.fields))


PRUNE_RATIO = Transform(
    "prune_ratio",
    0.0,
    "share of heads or hidden units cut away",
    range=(0, 0.95),
    on="numbers",
    applies=has_units,
)
