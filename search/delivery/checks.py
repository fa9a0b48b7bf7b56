"""Checks: the promises of an artifact, each compared with a measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...cost_models.tables.anchors import speed_words
from ..pareto.objectives import Objective, spelled
from ..training.accuracy import Z, accuracy, effective_images
from .claims import Accuracy, Check, Metrics
from .kernel_inventory import Inventory
from .leaving import answers_of, part_of

LOGITS = 1e-4  # largest difference of float kernels from torch, for logits up to 1; relative above
AGREEMENT = 0.98  # share of images that kernels of fewer bits classify as torch does
ACCURACY = 0.01  # difference of their accuracies
SIZE = 0.05  # relative excess of the file over its predicted size ...
METADATA_MB = 0.002  # ... plus labels and normalization, which no prediction counts
ENERGY = 0.25  # relative excess over the upper end of the promised interval
MEMORY = 0.25  # relative excess over the predicted peak ...
RUNTIME_MB = 16.0  # ... plus arenas that a runtime takes for any model
MEASURED = ("latency_ms", "peak_memory_mb", "energy_mj")  # on the device alone
FALLBACKS = "silent fallbacks"
FILES = "files"  # are those that were written
ANSWERED = "images answered there"  # by a kit
LOCAL = (*MEASURED, *(f"limit of {name}" for name in MEASURED), FALLBACKS)  # checks of it alone


def check_answers(
    exact: bool,
    logits: Tensor,
    expected: Tensor,
    labels: Tensor,
    low: float,
    goal: str = "accuracy",
) -> list[Check]:
    """Compare answers of the runtime with torch's, and with the promised accuracy.

    Args:
        exact: whether all kernels compute in float32; logits must then be close.
        logits: from the runtime (N, K).
        expected: from torch, with the same roundings (N, K).
        labels: (N,).
        low: least value that is allowed of the accuracy that was promised.
        goal: its name.
    """
    if not torch.isfinite(logits).all():
        return [Check("logits against torch", False, "not finite", "finite")]
    agreement = (logits.argmax(1) == expected.argmax(1)).double().mean().item()
    found, wanted = (accuracy(x, labels) for x in (logits, expected))
    if exact:
        distance, bound = float_distance(logits, expected)
        checks = [Check("logits against torch", distance <= bound, distance, f"<= {bound:.2g}")]
    else:
        difference = abs(found["accuracy"] - wanted["accuracy"])
        checks = [
            Check("agreement with torch", agreement >= AGREEMENT, agreement, f">= {AGREEMENT}"),
            Check("accuracy beside torch", difference <= ACCURACY, difference, f"<= {ACCURACY}"),
        ]
    name, share = f"{spelled(goal)} of the artifact", found[goal]
    return [*checks, Check(name, share >= low, share, f">= {low:.4f}")]


def check_exits(
    exact: bool,
    every: Tensor,
    expected: Tensor,
    part: Tensor,
    above: Sequence[float],
    labels: Tensor,
    low: float,
    goal: str = "accuracy",
) -> list[Check]:
    """Compare the answers of parts that hand over with torch's, and with the promised accuracy.

    Args:
        exact: whether all kernels compute in float32.
        every: logits of all parts from the runtime (E, N, K).
        expected: from torch, with the same roundings (E, N, K).
        part: that answers each image (N,) in the runtime.
        above: confidence of each exit from which on it answers.
        labels: (N,).
        low: least value that is allowed of the accuracy that was promised.
        goal: its name.
    """
    alike = (part == part_of(expected, above)).double().mean().item()
    if exact and torch.isfinite(every).all():
        distance, bound = float_distance(every, expected)
        close = Check("logits of exits", distance <= bound, distance, f"<= {bound:.2g}")
    else:
        same = (every.argmax(-1) == expected.argmax(-1)).double().mean().item()
        close = Check("agreement of exits with torch", same >= AGREEMENT, same, f">= {AGREEMENT}")
    chosen = answers_of(every, part), answers_of(expected, part)
    return [
        close,
        Check("images that leave as in torch", alike >= AGREEMENT, alike, f">= {AGREEMENT}"),
        check_answers(False, *chosen, labels, low, goal)[-1],
    ]


def float_distance(logits: Tensor, expected: Tensor) -> tuple[float, float]:
    """Largest difference of logits (N, K), and the largest that float kernels may have."""
    bound = LOGITS * max(1.0, expected.abs().max().item())
    return (logits - expected).abs().max().item(), bound


def floor_on(labels: Tensor, goal: str, promised: float, trained: Accuracy) -> float:
    """Least value of an accuracy on labels (N,) that keeps what `accuracy_floor` asks for."""
    return accuracy_floor(promised, trained.interval(goal)[0], effective_images(labels, goal))


def accuracy_floor(promised: float, trained: float, images: float) -> float:
    """Least accuracy that keeps both promises: the search's, and what training reached.

    The search scored other images, so accuracy on these may be lower by chance (score test of a
    share, one-sided at 2.5%). Training usually gains so much that a later collapse, from badly
    calibrated ranges, would still keep the search's promise; hence the second one.

    Args:
        promised: lower end of the interval by the search.
        trained: lower end of the interval after training.
        images: number of images that the artifact is checked on, as `effective_images` counts.
    """
    return max(promised - Z * math.sqrt(promised * (1 - promised) / images), trained)


def check_latency(latency: float, high: float, speed: float = 1.0) -> Check:
    """Check that the model is no slower than the upper end of its promised interval.

    Args:
        latency: measured, in ms.
        high: upper end of the interval in ms.
        speed: of the machine, where 1 is that of the calibration; a promise does not cover a
            machine slowed by other load or by heat.
    """
    return Check(
        "latency_ms", latency * speed <= high, latency, _at_most(f"{high:.4f}", high, speed)
    )


def _at_most(limit: str, high: float, speed: float) -> str:
    """The limit of a latency, also at the speed of the machine when it was measured."""
    slower = speed_words(speed)
    return f"<= {limit}" + (f", which is {high / speed:.4g} {slower}" if slower else "")


def check_size(size: float, predicted: float) -> Check:
    """Check that the file is no larger than predicted."""
    high = predicted * (1 + SIZE) + METADATA_MB
    return Check("size_mb", size <= high, size, f"<= {high:.4f}")


def check_memory(memory: float, predicted: float) -> Check:
    """Check that a process that runs the model grows by no more than predicted."""
    high = predicted * (1 + MEMORY) + RUNTIME_MB
    return Check("peak_memory_mb", memory <= high, memory, f"<= {high:.2f}")


def check_energy(energy: float, high: float) -> Check:
    """Check that a run takes no more energy than its promised upper end plus a margin.

    It is one reading over a second, of a counter that also counts other work of the machine.

    Args:
        energy: measured, in mJ.
        high: upper end of the interval in mJ.
    """
    most = high * (1 + ENERGY)
    return Check("energy_mj", energy <= most, energy, f"<= {most:.4g}")


def check_kernels(inventory: Inventory) -> Check:
    """Check that an integer kernel executes every layer that is stored for one."""
    missing = inventory.fallbacks
    return Check(FALLBACKS, missing == 0, float(missing), "0")


def check_limits(
    metrics: Metrics, objectives: Sequence[Objective], counts: Mapping[str, float]
) -> list[Check]:
    """Check measured values against the limits, latencies at the speed of the calibration.

    A limit on what was not measured fails; accuracies and sizes are always measured.

    Args:
        metrics: measured.
        objectives: limits.
        counts: what is known without measuring, by name.
    """
    measured = {**counts, **metrics.at_calibrated_speed()}
    checks: list[Check] = []
    for o in objectives:
        if o.limit is None or o.name not in (*measured, *MEASURED):
            continue
        wanted = f"{'>=' if o.maximize else '<='} {o.limit:g}"
        value: float | str = measured.get(o.name, "not measured")
        if o.name == "latency_ms":
            value, wanted = metrics.latency_ms, _at_most(f"{o.limit:g}", o.limit, metrics.speed)
        holds = o.name in measured and o.violation(measured[o.name]) <= 0
        checks.append(Check(f"limit of {o.name}", holds, value, wanted))
    return checks
