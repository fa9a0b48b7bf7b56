"""Exit promises: what is promised of a model with exits once its thresholds are known."""

from __future__ import annotations

import math
from dataclasses import replace

from ...cost_models import CostModel
from ...spaces import Candidate
from ..training.accuracy import Z
from .claims import Exits, Promised
from .exit_parts import Rule
from .leaving import leaving_of

ENERGIES = ("energy_mj", "energy_low_mj", "energy_high_mj")


def exits_of(rule: Rule) -> Exits:
    """What is known of exits before any part was measured."""
    about = rule.after, rule.above, rule.shares, rule.whole_accuracy, rule.drop
    return Exits(*about, rule.curve)


def with_shares(
    promised: Promised, candidate: Candidate, rule: Rule, model: CostModel, images: int
) -> Promised:
    """Promises with the mean latency at the shares of the validation images.

    Its interval is that of the cost model, wider by what other images would change: how many of
    them leave where is a sample.

    Args:
        promised: at the shares that the search expected.
        candidate: with exits.
        rule: by which images leave.
        model: that predicts its costs.
        images: of which the shares are.
    """
    known = model.predict([candidate], leaving={candidate.to_json(): leaving_of(rule.shares)})
    now, factor = known.row(0), promised.latency_ms / promised.predicted_ms
    more = math.exp(Z * _deviation(rule.shares, model.exit_ms(candidate)) / math.sqrt(images))
    energies = {name: now[name] for name in ENERGIES if name in now}
    return replace(
        promised,
        latency_ms=now["latency_ms"] * factor,
        low_ms=now["low_ms"] * factor / more,
        high_ms=now["high_ms"] * factor * more,
        predicted_ms=now["latency_ms"],
        **energies,
    )


def _deviation(shares: tuple[float, ...], part_ms: list[float]) -> float:
    """Standard deviation of the time of an image, relative to its mean."""
    each = [sum(part_ms[: number + 1]) for number in range(len(part_ms))]
    mean = sum(share * ms for share, ms in zip(shares, each, strict=True))
    spread = sum(share * (ms - mean) ** 2 for share, ms in zip(shares, each, strict=True))
    return math.sqrt(spread) / mean
