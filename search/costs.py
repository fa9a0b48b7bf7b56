"""Costs: what a cost model and exact counting say of a candidate, under the names of metrics."""

from __future__ import annotations

from ..cost_models import CostModel, workload
from ..spaces import Candidate


class Costs:
    """Predicted costs of candidates on one device.

    Args:
        model: the calibrated cost model.
    """

    def __init__(self, model: CostModel) -> None:
        self.model = model

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Latency with its interval, peak memory, size, multiply-accumulates and parameters."""
        found = self.model.predict([candidate])
        work = workload(candidate)
        return {
            "latency_ms": float(found.latency_ms[0]),
            "low_ms": float(found.low_ms[0]),
            "high_ms": float(found.high_ms[0]),
            "peak_memory_mb": float(found.peak_memory_mb[0]),
            "size_mb": float(found.size_mb[0]),
            "macs": float(work.macs),
            "params": float(work.params),
        }
