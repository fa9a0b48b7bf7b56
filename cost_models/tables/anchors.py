"""Anchors: fixed sub-blocks that are timed with everything else, to tell how fast the machine was.

What slows a machine slows small kernels more than large ones. On a shared server, whose speed
wandered by a third within seconds, networks of small kernels lost twice the share of time that
large matrix products lost: one factor explained nine tenths of it, with a weight of 1 to 2.4 that
follows the time of a graph's node. So anchors are large and small, and everything is compared with
the mix of both that its own kernels are like. That left 4.8% of the spread between sessions, where
large anchors alone had left 8.0%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ...spaces import Block, Place, Policy
from ..units.sub_block import SubBlock

_PLACE = Place(Block(num_heads=3, head_dim=64, mlp_hidden=768), 192, (14, 14), 0, 196, 196)
_SMALL = Place(Block(num_heads=2, head_dim=32, mlp_hidden=128), 64, (4, 4), 0, 16, 16)
LARGE = (
    SubBlock("mlp", _PLACE, Policy(), "layer", "mlp"),
    SubBlock("mixer", _PLACE, Policy(), "layer", "softmax"),
    SubBlock("mixer", replace(_PLACE, width=96), Policy(), "layer", "softmax"),
)
SMALL = (
    SubBlock("mlp", _SMALL, Policy(), "layer", "mlp"),
    SubBlock("mixer", _SMALL, Policy(), "layer", "softmax"),
)
ANCHORS = (*LARGE, *SMALL)
STEADY = 0.05  # of the speed, less than which is the same


@dataclass(frozen=True)
class Pace:
    """Usual times of the anchors while a device is measured.

    Attributes:
        large_ms: geometric mean of those with large kernels; 0 where there were none.
        small_ms: of those with small ones.
    """

    large_ms: float = 0.0
    small_ms: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """Plain data, the arguments of the class."""
        return asdict(self)


def coarseness(node_ms: float, anchors: Sequence[float]) -> float:
    """Likeness of kernels to those of the large anchors: 1 is like them, 0 like the small ones.

    Args:
        node_ms: mean time of a node of the graph.
        anchors: the same of `ANCHORS`.
    """
    logs = np.log(anchors)
    large, small = logs[: len(LARGE)].mean(), logs[len(LARGE) :].mean()
    if large <= small:  # where launching takes longer than computing, all are alike
        return 1.0
    return float(np.clip((np.log(node_ms) - small) / (large - small), 0.0, 1.0))


def geometric(values: Sequence[float]) -> float:
    """Geometric mean of positive values."""
    return float(np.exp(np.mean(np.log(values))))


def speed_words(speed: float) -> str:
    """The speed of a machine against that of its calibration; empty where they are the same.

    >>> speed_words(0.61), speed_words(1.01)
    ('at 0.61 of the calibrated speed', '')
    """
    return f"at {speed:.2f} of the calibrated speed" if abs(speed - 1) > STEADY else ""
