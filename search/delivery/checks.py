"""Gate: the promises of an artifact, each held against what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...cost_models.tables.anchors import speed_words
from ..pareto.objectives import Objective
from ..training.accuracy import Z
from .claims import Check, Metrics
from .kernel_inventory import Inventory

LOGITS = 1e-4  # largest difference of float kernels from torch, for logits up to 1; relative above
AGREEMENT = 0.98  # share of images on which kernels of fewer bits say the same as torch
ACCURACY = 0.01  # difference of their accuracies
SIZE = 0.05  # relative excess of the file over its predicted size ...
METADATA_MB = 0.002  # ... beside labels and normalization, which no prediction counts
ENERGY = 0.25  # relative excess over the upper end of the promised interval
MEMORY = 0.25  # relative excess over the predicted peak ...
RUNTIME_MB = 16.0  # ... beside arenas that a runtime takes whatever the model
MEASURED = ("latency_ms", "peak_memory_mb", "energy_mj")  # on this device alone


def check_answers(
    exact: bool, logits: Tensor, expected: Tensor, labels: Tensor, low: float
) -> list[Check]:
    """Whether the runtime says what torch says, and is right as often as was promised.

    Args:
        exact: whether all kernels compute in float32, which settles what can be asked.
        logits: from the runtime (N, K).
        expected: from torch, with the same roundings (N, K).
        labels: (N,).
        low: lower end of the interval of the promised accuracy.
    """
    if not torch.isfinite(logits).all():
        return [Check("logits against torch", False, "not finite", "finite")]
    agreement = (logits.argmax(1) == expected.argmax(1)).double().mean().item()
    found, torchs = ((x.argmax(1) == labels).double().mean().item() for x in (logits, expected))
    if exact:
        distance, bound = float_distance(logits, expected)
        checks = [Check("logits against torch", distance <= bound, distance, f"<= {bound:.2g}")]
    else:
        difference = abs(found - torchs)
        checks = [
            Check("agreement with torch", agreement >= AGREEMENT, agreement, f">= {AGREEMENT}"),
            Check("accuracy beside torch", difference <= ACCURACY, difference, f"<= {ACCURACY}"),
        ]
    return [*checks, Check("accuracy of the artifact", found >= low, found, f">= {low:.4f}")]


def float_distance(logits: Tensor, expected: Tensor) -> tuple[float, float]:
    """Largest difference of logits (N, K), and the largest that float kernels may have."""
    bound = LOGITS * max(1.0, expected.abs().max().item())
    return (logits - expected).abs().max().item(), bound


def accuracy_floor(promised: float, trained: float, images: int) -> float:
    """The least accuracy that keeps both promises, the search's and what training reached.

    The search promises for other images: what is found on these may be below by chance (the score
    test of a share, one-sided at 2.5%). Training usually gains so much that a collapse afterwards,
    from ranges that a calibration chose badly, would still keep the search's promise.

    Args:
        promised: lower end of the interval by the search.
        trained: lower end of the interval after training.
        images: on which the artifact is judged.
    """
    return max(promised - Z * math.sqrt(promised * (1 - promised) / images), trained)


def check_latency(found: float, high: float, speed: float = 1.0) -> Check:
    """The model is not slower than the upper end of its promised interval.

    Args:
        found: measured latency in ms.
        high: end of the interval in ms.
        speed: of the machine, where 1 is that of the calibration: what was promised of a machine
            says nothing of one that a neighbor, or heat, has made slower.
    """
    return Check("latency_ms", found * speed <= high, found, _at_most(f"{high:.4f}", high, speed))


def _at_most(words: str, high: float, speed: float) -> str:
    """What a latency has to be, and what that means at the speed at which it was measured."""
    slower = speed_words(speed)
    return f"<= {words}" + (f", which is {high / speed:.4g} {slower}" if slower else "")


def check_size(found: float, predicted: float) -> Check:
    """The file is no larger than predicted."""
    high = predicted * (1 + SIZE) + METADATA_MB
    return Check("size_mb", found <= high, found, f"<= {high:.4f}")


def check_memory(found: float, predicted: float) -> Check:
    """A process that runs the model grows by no more than predicted."""
    high = predicted * (1 + MEMORY) + RUNTIME_MB
    return Check("peak_memory_mb", found <= high, found, f"<= {high:.2f}")


def check_energy(found: float, high: float) -> Check:
    """A run takes no more energy than the upper end of its promised interval, and a margin.

    It is one reading of a second, of a counter that sees whatever else the machine does.

    Args:
        found: measured energy in mJ.
        high: end of the interval in mJ.
    """
    most = high * (1 + ENERGY)
    return Check("energy_mj", found <= most, found, f"<= {most:.4g}")


def check_kernels(inventory: Inventory) -> Check:
    """Every layer that is stored for an integer kernel is executed by one."""
    missing = inventory.fallbacks
    return Check("silent fallbacks", missing == 0, float(missing), "0")


def check_limits(metrics: Metrics, objectives: Sequence[Objective]) -> list[Check]:
    """Measured values keep the limits of the run, latencies at the speed of the calibration.

    A limit on what was not measured is not kept; accuracies and sizes always are measured.
    """
    judged = metrics.at_calibrated_speed()
    checks: list[Check] = []
    for o in objectives:
        if o.limit is None or o.name not in (*judged, *MEASURED):
            continue
        wanted = f"{'>=' if o.maximize else '<='} {o.limit:g}"
        found: float | str = judged.get(o.name, "not measured")
        if o.name == "latency_ms":
            found, wanted = metrics.latency_ms, _at_most(f"{o.limit:g}", o.limit, metrics.speed)
        holds = o.name in judged and o.violation(judged[o.name]) <= 0
        checks.append(Check(f"limit of {o.name}", holds, found, wanted))
    return checks
