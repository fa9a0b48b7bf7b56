"""Describe: what a space holds and what a candidate is, for people and for machines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from ..cost_models.workload import workload
from ..spaces import Candidate, ConfigError, Scalar, SearchSpace, SpaceError
from .files import read_json


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of a JSON file that holds one or a list of them.

    Raises:
        ConfigError: the file cannot be read, is not JSON or holds none.
        SpaceError: something in it is no candidate.
    """
    raw = read_json(path)
    listed: list[Any] = cast("list[Any]", raw) if isinstance(raw, list) else [raw]
    if not listed:
        raise ConfigError(f"{path}: holds no candidate")
    found: list[Candidate] = []
    for index, data in enumerate(listed):
        try:
            found.append(Candidate.from_dict(data))
        except SpaceError as error:
            raise SpaceError(f"{path}: [{index}]: {error}") from None
    return found


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
        "size": space.size,
        "choices": choices,
        "smallest": facts(space.smallest()),
        "largest": facts(space.largest()),
    }


def space_text(space: SearchSpace) -> str:
    """`describe_space` for people; a choice that many blocks draw is one line."""
    found = describe_space(space)
    lines = [
        f"{space.name}: {found['size']:,} candidates from {len(space.parameters)} choices",
        "",
        *_choice_lines(space),
        "",
        f"{'':10}{'blocks':>8}{'params':>14}{'MACs':>16}{'weights':>12}",
    ]
    for name in ("smallest", "largest"):
        f = found[name]
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
