"""Choices: values that the front prefers, and how much of the metrics each choice explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...spaces import Scalar
from ..scoring.evaluation import Evaluation
from .facts import Facts


@dataclass(frozen=True, slots=True)
class Axis:
    """A choice, taken together over all blocks where it is drawn.

    Attributes:
        name: field, with its stage where there are several.
        values: those that occur, in the order of the space.
        scored: share of each among all scored candidates.
        front: share of each on the front.
        explains: metric -> share of its variance that goes with this choice.
    """

    name: str
    values: tuple[str, ...]
    scored: tuple[float, ...]
    front: tuple[float, ...]
    explains: dict[str, float]


def axes(facts: Facts) -> list[Axis]:
    """List choices with several values among the scored candidates, the weightiest first."""
    order: dict[str, dict[Scalar, None]] = {}
    several = len(facts.space.largest().architecture.stages) > 1
    for choice in facts.space.parameters:
        values = order.setdefault(short_name(choice.name, several), {})
        values |= dict.fromkeys(choice.values)
    scored = [_counts(facts, e, several) for e in facts.evaluations]
    on_front = {e.key for e in facts.front}
    chosen = [c for e, c in zip(facts.evaluations, scored, strict=True) if e.key in on_front]
    metrics = {
        "accuracy": np.array([e.metrics[facts.goal] for e in facts.evaluations]),
        "latency": np.log([e.metrics["latency_ms"] for e in facts.evaluations]),
    }
    varied: list[Axis] = []
    for name, values in order.items():
        table = np.array([[c[name].get(v, 0) for v in values] for c in scored], float)
        occurs = table.sum(0) > 0
        if occurs.sum() < 2:
            continue
        listed = [v for v, used in zip(values, occurs, strict=True) if used]
        varied.append(
            Axis(
                name,
                tuple(map(str, listed)),
                _shares(scored, name, listed),
                _shares(chosen, name, listed),
                {m: explained(table[:, occurs], target) for m, target in metrics.items()},
            )
        )
    return sorted(varied, key=lambda axis: -max(axis.explains.values()))


def short_name(name: str, several: bool) -> str:
    """Name under which choices are taken together.

    >>> short_name("stages.1.blocks.4.mixer", True), short_name("stages.0.width", False)
    ('stage 2: mixer', 'width')
    """
    first, *_, field = parts = ["", *name.split(".")]
    stage = f"stage {int(parts[2]) + 1}: " if several and parts[1:2] == ["stages"] else first
    return stage + field


def explained(table: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Share of the variance of a target that a linear fit on counts explains; 0 to 1.

    Adjusted for the number of values (Wherry, Annals of Mathematical Statistics 2(4), 1931), so
    that a choice unrelated to the target gets about 0. For a choice that is drawn once this is
    the correlation ratio.

    Args:
        table: (N, V) number of times that each candidate uses each value.
        target: (N,).
    """
    centered = target - target.mean()
    total = float(centered @ centered)
    columns = table - table.mean(0)
    rank = int(np.linalg.matrix_rank(columns))
    free = len(target) - 1 - rank
    if total <= 0 or free < 1 or rank == 0:
        return 0.0
    fit = columns @ np.linalg.lstsq(columns, centered, rcond=None)[0]
    left = float(((centered - fit) ** 2).sum())
    return max(0.0, 1 - left / total * (len(target) - 1) / free)


def _counts(facts: Facts, e: Evaluation, several: bool) -> dict[str, Counter[Scalar]]:
    counts: dict[str, Counter[Scalar]] = {
        short_name(choice.name, several): Counter() for choice in facts.space.parameters
    }
    for name, value in facts.space.assignment(e.candidate).items():
        counts[short_name(name, several)][value] += 1
    return counts


def _shares(
    counts: Sequence[dict[str, Counter[Scalar]]], name: str, values: Sequence[Scalar]
) -> tuple[float, ...]:
    """Mean share of each value over candidates that have the choice at all."""
    rows = [[c[name][v] / c[name].total() for v in values] for c in counts if c[name].total()]
    return tuple(np.mean(rows, 0).tolist()) if rows else (0.0,) * len(values)
