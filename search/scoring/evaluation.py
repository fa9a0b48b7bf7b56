"""Evaluation: the outcome of scoring a candidate, and the call that scores one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...spaces import Candidate
from ...spaces.errors import WriteError, first_line
from ..pareto.by_device import on_device

Scorer = Callable[[Candidate], dict[str, float]]  # accuracies with their intervals, by name
Status = Literal["complete", "failed"]
# Of the scores: is raised with whatever changes how candidates are assembled, sliced or rounded, or
# what is forecast of them, as scores from before and after it do not compare.
EDITION = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of scoring one candidate.

    Attributes:
        candidate: what was scored.
        status: "complete", or "failed" with a reason.
        metrics: values by name, costs and accuracies with their intervals.
        seconds: that scoring took.
        reason: why it failed.
    """

    candidate: Candidate
    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    seconds: float = 0.0
    reason: str = ""

    @property
    def key(self) -> str:
        """The candidate's key."""
        return self.candidate.key

    def on(self, device: str) -> Evaluation:
        """The same as a run for one of several devices alone would have it."""
        return replace(self, metrics=on_device(self.metrics, device))

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it."""
        data: dict[str, Any] = {
            "key": self.key,
            "status": self.status,
            "metrics": dict(self.metrics),
            "seconds": round(self.seconds, 4),
        }
        if self.reason:
            data["reason"] = self.reason
        return data | {"candidate": self.candidate.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Inverse of `to_dict`.

        Raises:
            SpaceError: it holds no valid candidate.
        """
        candidate = Candidate.from_dict(data["candidate"])
        return cls(
            candidate, data["status"], data["metrics"], data["seconds"], data.get("reason", "")
        )


def evaluate(scorer: Scorer, candidate: Candidate, costs: Mapping[str, float]) -> Evaluation:
    """Score a candidate whose costs are known; a failure is an outcome, not an end.

    Failures that other candidates would repeat (a missing file, a full disk, an interrupt) are
    raised.
    """
    start = time.perf_counter()
    try:
        metrics = scorer(candidate)
    except WriteError:
        raise
    except (RuntimeError, ArithmeticError, MemoryError, ValueError) as error:
        seconds = time.perf_counter() - start
        reason = first_line(f"{type(error).__name__}: {error}")
        return Evaluation(candidate, "failed", dict(costs), seconds, reason)
    return Evaluation(candidate, "complete", {**metrics, **costs}, time.perf_counter() - start)
