"""Health: losses of the smallest, the largest and a random network of a supernet over time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("vitpareto")

LARGEST, SMALLEST = "largest", "smallest"
MARGIN = 0.1  # by how much of its loss a smaller network must be better to be an alarm
PATIENCE = 3  # observations in a row
DIVERGED = 1.5  # times its best loss
DECAY = 0.9  # of the running mean of each curve


@dataclass
class Health:
    """Curves of the losses on labels, and alarms.

    Attributes:
        curves: name of a network -> running mean of its loss, one a recorded step.
        alarms: problems seen, with the step.
        every: steps between two points.
    """

    every: int = 10
    curves: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    alarms: list[str] = field(default_factory=list[str])
    _means: dict[str, float] = field(default_factory=dict[str, float])
    _strikes: int = 0

    def observe(self, step: int, losses: Mapping[str, float]) -> None:
        """Note the losses of one step."""
        for name, loss in losses.items():
            self._means[name] = DECAY * self._means.get(name, loss) + (1 - DECAY) * loss
        if step % self.every:
            return
        for name, mean in self._means.items():
            self.curves.setdefault(name, []).append(mean)
        self._check_order(step)
        self._check_divergence(step)

    def latest(self) -> dict[str, float]:
        """The running mean of each loss."""
        return dict(self._means)

    def notes(self) -> dict[str, Any]:
        """Plain data for a checkpoint; `restore` reads it."""
        return {
            "curves": self.curves,
            "alarms": self.alarms,
            "means": self._means,
            "strikes": self._strikes,
        }

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.curves, self.alarms = notes["curves"], notes["alarms"]
        self._means, self._strikes = notes["means"], notes["strikes"]

    def _check_order(self, step: int) -> None:
        bar = (1 - MARGIN) * self._means.get(LARGEST, 0.0)
        better = [name for name, mean in self._means.items() if mean < bar]
        self._strikes = self._strikes + 1 if better else 0
        if self._strikes == PATIENCE:
            self._alarm(
                f"step {step}: the {better[0]} network has a lower loss than the largest: the "
                "large ones starve; try a smaller lr, more epochs or project_conflicts"
            )

    def _check_divergence(self, step: int) -> None:
        for name, curve in self.curves.items():
            best = min(curve)
            # Warn once, when the threshold is crossed.
            if curve[-1] > DIVERGED * best and not (len(curve) > 1 and curve[-2] > DIVERGED * best):
                self._alarm(
                    f"step {step}: the loss of the {name} network rose from {best:.3f} to "
                    f"{curve[-1]:.3f}; try a smaller lr"
                )

    def _alarm(self, text: str) -> None:
        self.alarms.append(text)
        log.warning("supernet: %s", text)
