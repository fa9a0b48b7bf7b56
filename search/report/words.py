"""Words: candidates and figures as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...cost_models.tables.anchors import speed_words
from ...cost_models.units.workload import workload
from ...spaces import Candidate, Policy
from ...spaces.exits import blocks_before
from ...spaces.places import places
from ..delivery.claims import Accuracy, Metrics


def percent(share: float) -> str:
    """A share with one digit.

    >>> percent(0.98765)
    '98.8%'
    """
    return f"{share:.1%}"


def interval(metrics: Mapping[str, float], goal: str) -> str:
    """An accuracy with its 95% interval, by its name."""
    return _between(*(metrics[f"{goal}{end}"] for end in ("_low", "", "_high")))


def share(accuracy: Accuracy, goal: str) -> str:
    """An accuracy of a delivered model with its 95% interval, by its name."""
    return _between(*accuracy.interval(goal))


def _between(low: float, share: float, high: float) -> str:
    return f"{percent(share)} ({100 * low:.1f} to {100 * high:.1f})"


def latency(metrics: Metrics) -> str:
    """A measured latency at the calibrated speed, and what was read where the speed was another."""
    return ", ".join(filter(None, (ms(metrics.calibrated_ms), read_as(metrics))))


def read_as(metrics: Metrics) -> str:
    """The latency that was read where the machine had another speed; else nothing."""
    words = speed_words(metrics.speed)
    return f"read as {ms(metrics.latency_ms)} {words}" if words else ""


def ms(value: float) -> str:
    """Milliseconds with three significant digits.

    >>> ms(0.04237), ms(12.345)
    ('0.0424 ms', '12.3 ms')
    """
    return f"{value:#.3g}".rstrip(".") + " ms"


def mb(value: float) -> str:
    """Megabytes with three significant digits."""
    return f"{value:#.3g}".rstrip(".") + " MB"


def number(value: Any) -> str:
    """A result of a stage or a check."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def duration(seconds: float) -> str:
    """Seconds in minutes and hours.

    >>> duration(42.3), duration(300), duration(7260)
    ('42 s', '5 min 0 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def bits(policy: Policy) -> str:
    """Precision of a sub-block.

    >>> bits(Policy(8, 8)), bits(Policy(4, 32)), bits(Policy())
    ('int8', 'w4', 'fp32')
    >>> bits(Policy(8, 8, weight_scales="tensor"))
    'int8/tensor'
    """
    if policy.weight_bits > 8:
        return f"fp{policy.weight_bits}"
    scales = f"/{policy.weight_scales}" if policy.weight_scales else ""
    if policy.weight_bits == policy.act_bits:
        return f"int{policy.weight_bits}{scales}"
    acts = f"a{policy.act_bits}" if policy.act_bits < 32 else ""
    return f"w{policy.weight_bits}{acts}{scales}"


def precisions(candidate: Candidate) -> str:
    """What the short names of the precisions of a candidate mean; empty where all is in fp32."""
    policies = dict.fromkeys(block.policy for block in workload(candidate).sub_blocks)
    told = {bits(policy): _precision(policy) for policy in policies if policy.weight_bits < 32}
    return "; ".join(f"{name}: {meaning}" for name, meaning in told.items())


def _precision(policy: Policy) -> str:
    """Precision of a sub-block in full.

    >>> _precision(Policy(4, 8)), _precision(Policy(16))
    ('weights of 4 bits and activations of 8', 'weights of 16 bits')
    """
    acts = f" and activations of {policy.act_bits}" if policy.act_bits < 32 else ""
    group = policy.weight_scales.replace("block", "block of ")
    scales = f", a scale for each {group}" if group else ""
    return f"weights of {policy.weight_bits} bits{acts}{scales}"


def in_words(candidate: Candidate) -> str:
    """Summary of a candidate in one line: depth and widths, mixers, tokens, precisions."""
    a = candidate.architecture
    shape = " + ".join(f"{len(stage.blocks)}x{stage.width}" for stage in a.stages)
    mixers = Counter(block.mixer for block in a.blocks())
    kinds = ", ".join(f"{n} {name}" for name, n in mixers.most_common())
    for part, what in (("mixer_capacity", "mixers"), ("mlp_capacity", "MLPs")):
        routed = sum(getattr(block, part) < 1 for block in a.blocks())
        kinds += f", {routed} {what} routed" if routed else ""
    after = [str(blocks) for blocks in blocks_before(a)]
    kinds += f", exits after {' and '.join(after)} blocks" if after else ""
    walk = [place for stage in places(a) for place in stage]
    first, last = walk[0].tokens, walk[-1].kept
    tokens = f"{first} tokens" + (f", {last} at the end" if last != first else "")
    policies = Counter(bits(block.policy) for block in workload(candidate).sub_blocks)
    precision = ", ".join(name for name, _ in policies.most_common())
    return f"{shape} blocks: {kinds}; {a.input_size} px, {tokens}; {precision}"
