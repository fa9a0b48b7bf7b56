"""Describe: spaces and candidates, as text and as JSON."""

from __future__ import annotations

import re
from typing import Any

from ...cost_models.units.workload import workload
from ...spaces import Candidate, Scalar, SearchSpace


def describe_candidate(candidate: Candidate) -> dict[str, Any]:
    """A candidate as JSON, with its key: what `Candidate.from_dict` reads."""
    return {"key": candidate.key} | candidate.to_dict()


def facts(candidate: Candidate) -> dict[str, Any]:
    """Exact counts of a candidate: blocks, parameters, MACs and weight bytes."""
    work = workload(candidate)
    return {
        "key": candidate.key,
        "blocks": sum(1 for _ in candidate.architecture.blocks()),
        "params": work.params,
        "macs": work.macs,
        "weight_mb": work.weight_bytes / 1e6,
    }


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """Size, choices, and the counts of the smallest and the largest candidate."""
    choices = [{"name": c.name, "values": list(c.values)} for c in space.parameters]
    return {
        "name": space.name,
        "description": space.description,
        "size": space.size,
        "choices": choices,
        "smallest": facts(space.smallest()),
        "largest": facts(space.largest()),
    }


def space_text(space: SearchSpace) -> str:
    """Text of `describe_space`; a choice that many blocks draw is one line."""
    about = describe_space(space)
    lines = [
        f"{space.name}: {about['size']:,} candidates from {len(space.parameters)} choices",
        *([space.description] if space.description else []),
        "",
        *_choice_lines(space),
        "",
        f"{'':10}{'blocks':>8}{'params':>14}{'MACs':>16}{'weights':>12}",
    ]
    for name in ("smallest", "largest"):
        f = about[name]
        lines.append(
            f"{name:10}{f['blocks']:>8}{f['params']:>14,}{f['macs']:>16,}{f['weight_mb']:>9.2f} MB"
        )
    return "\n".join(lines)


def _choice_lines(space: SearchSpace) -> list[str]:
    drawn: dict[tuple[str, tuple[Scalar, ...]], int] = {}
    for choice in space.parameters:
        name = re.sub(r"(blocks|groups)\.\d+", r"\1.*", choice.name)
        drawn[name, choice.values] = drawn.get((name, choice.values), 0) + 1
    width = max((len(name) for name, _ in drawn), default=0)
    return [
        f"  {name:{width}}  {' | '.join(map(str, values))}"
        + (f"   (drawn {times} times)" if times > 1 else "")
        for (name, values), times in drawn.items()
    ]
