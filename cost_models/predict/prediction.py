"""Prediction: what a cost model says of candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Costs of a batch of candidates, one value each.

    Attributes:
        latency_ms: of one run of the device's batch; with exits the mean over images.
        low_ms: lower end of the 90% interval.
        high_ms: upper end of the 90% interval.
        peak_memory_mb: growth of a process that loads and runs the model; without the runtime's
            own part where no process was measured.
        size_mb: of the model's file, in 10^6 bytes.
        inside: whether every sub-block is within the range of what was measured.
        energy_mj: of one run above idle; None where no counter told.
        energy_low_mj: lower end of its 90% interval.
        energy_high_mj: upper end.
    """

    latency_ms: Array
    low_ms: Array
    high_ms: Array
    peak_memory_mb: Array
    size_mb: Array
    inside: NDArray[np.bool_]
    energy_mj: Array | None = None
    energy_low_mj: Array | None = None
    energy_high_mj: Array | None = None

    def row(self, index: int) -> dict[str, float | bool]:
        """All costs of one candidate that are known, under their names, as plain numbers."""
        columns = {name: values for name, values in vars(self).items() if values is not None}
        return {name: values[index].item() for name, values in columns.items()}
