"""Decompression: a model that failed its checks is compressed less, one step at a time.

A step takes back part of the compression of one sub-block. All steps from a model are ranked by
the latency that they lose for the accuracy that they regain. They are taken in that order, and
ranked anew when all have been taken. NNCF's accuracy control ranks and reverts groups of
quantizers in the same way, by accuracy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ...spaces import Candidate, Policy, Scalar
from ...spaces.compression import Compression, StagePolicy
from ...spaces.transforms import policy_transforms

Score = Callable[[Candidate], float]


@dataclass(frozen=True, slots=True)
class Step:
    """One step back.

    Attributes:
        path: of the sub-block, such as "stages.0.mlp.3" or "head".
        before: its policy.
        after: its policy one step back.
    """

    path: str
    before: Policy
    after: Policy

    def __str__(self) -> str:
        """The change in words."""
        changes = [
            f"{name} {_text(before)} to {_text(after)}"
            for name in policy_transforms()
            if (before := getattr(self.before, name)) != (after := getattr(self.after, name))
        ]
        return f"{self.path}: {', '.join(changes)}"

    def apply(self, candidate: Candidate) -> Candidate:
        """The candidate after the step."""
        return with_policy(candidate, self.path, self.after)


def steps_back(candidate: Candidate) -> list[Step]:
    """List every possible step from a candidate; none where nothing is compressed."""
    return [
        Step(path, policy, after)
        for path, policy in policies(candidate).items()
        for after in less_compressed(policy)
    ]


def less_compressed(policy: Policy) -> Iterator[Policy]:
    """Policies that compress one step less by one transform."""
    for name, transform in policy_transforms().items():
        value = transform.less(getattr(policy, name))
        if value is not None:
            yield replace(policy, **{name: value})


def _text(value: Scalar) -> str:
    return repr(value) if isinstance(value, str | bool) else f"{value:g}"


def ranked(
    candidate: Candidate, accuracy: Score, latency: Score, allowed: Callable[[Candidate], bool]
) -> list[Step]:
    """Rank the steps from a candidate, the least latency lost per accuracy regained first.

    Steps that lose no latency come before all others, in order of accuracy regained. Steps that
    regain nothing come last.

    Args:
        candidate: from which steps are taken.
        accuracy: of a candidate; a smooth measure ranks better.
        latency: of a candidate.
        allowed: whether a candidate can be delivered.
    """
    here, now = accuracy(candidate), latency(candidate)
    ordered: list[tuple[tuple[float, ...], Step]] = []
    for step in steps_back(candidate):
        after = step.apply(candidate)
        if allowed(after):
            gain, lost = accuracy(after) - here, max(0.0, latency(after) - now)
            order = (0, lost / gain, -gain) if gain > 0 else (1, -gain, lost)
            ordered.append((order, step))
    return [step for _, step in sorted(ordered, key=lambda pair: pair[0])]


def policies(candidate: Candidate) -> dict[str, Policy]:
    """Path -> policy of every sub-block that has one."""
    c = candidate.compression
    by_path = {"stem": c.stem}
    for i, stage in enumerate(c.stages):
        if i:
            by_path[f"stages.{i}.downsample"] = stage.downsample
        for part in ("mixer", "mlp"):
            by_path |= {f"stages.{i}.{part}.{j}": p for j, p in enumerate(getattr(stage, part))}
    return by_path | {"head": c.head}


def with_policy(candidate: Candidate, path: str, policy: Policy) -> Candidate:
    """The candidate with another policy at a path of `policies`."""
    c = candidate.compression
    if path in ("stem", "head"):
        return Candidate(candidate.architecture, replace(c, **{path: policy}))
    _, i, part, *rest = path.split(".")
    stages = list(c.stages)
    stages[int(i)] = _changed(stages[int(i)], part, policy, *map(int, rest))
    return Candidate(candidate.architecture, Compression(tuple(stages), c.stem, c.head))


def _changed(stage: StagePolicy, part: str, policy: Policy, j: int = 0) -> StagePolicy:
    if part == "downsample":
        return replace(stage, downsample=policy)
    listed = list(getattr(stage, part))
    listed[j] = policy
    return replace(stage, **{part: tuple(listed)})
