"""Traits: candidates of any space as a table of numbers, from which outcomes can be predicted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cost_models import workload
from ..spaces import Candidate


class Traits:
    """Tables with the same columns for all candidates.

    A network has its settings, the logarithms of its size, depth and widths, and for each stage
    the means over its blocks and policies. A name such as that of a mixer is a share of the
    blocks, and one column more for the first block, through which all others see the image.

    Args:
        candidates: whose traits are the columns.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.names = sorted({name for candidate in candidates for name in _traits(candidate)})

    def __call__(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """A row each (N, D); what a candidate does not have is 0."""
        rows = [_traits(candidate) for candidate in candidates]
        return np.array([[row.get(name, 0.0) for name in self.names] for row in rows])


def _traits(candidate: Candidate) -> dict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)

    def add(prefix: str, settings: Any, weight: float = 1.0) -> None:
        for field in fields(settings):
            value = getattr(settings, field.name)
            if isinstance(value, str):
                found[f"{prefix}{field.name}={value}"] += weight
            elif isinstance(value, int | float):
                found[f"{prefix}{field.name}"] += weight * value

    architecture, work = candidate.architecture, workload(candidate)
    add("", architecture)
    found["params"], found["macs"] = math.log(work.params), math.log(work.macs)
    for index, (stage, policies) in enumerate(
        zip(architecture.stages, candidate.compression.stages, strict=True)
    ):
        share, prefix = 1 / len(stage.blocks), f"stages.{index}."
        found[f"{prefix}depth"] = math.log(len(stage.blocks))
        found[f"{prefix}log_width"] = math.log(stage.width)
        found[f"{prefix}first={stage.blocks[0].mixer}"] = 1.0
        for block in stage.blocks:
            add(prefix, block, share)
        for part in ("mixer", "mlp"):
            for policy in getattr(policies, part):
                add(f"{prefix}{part}_", policy, share)
    return found
