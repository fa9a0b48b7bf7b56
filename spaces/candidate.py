"""Candidate: an architecture and its compression, one point of a search space, as data.

Candidates are frozen and canonical: a field that has no effect is at its default, defaults are
left out of the JSON, and `Candidate.key` is the hash of that JSON. So equal keys mean the same
network under the same compression, in every process and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from . import mixers
from .architecture import Architecture, Stage
from .block import Block
from .codec import from_plain, mapping, policy_from_plain, sequence, to_plain
from .compression import Compression, Policy, StagePolicy
from .errors import SpaceError
from .exits import has_exits, without_exits
from .rules import check

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Candidate:
    """An architecture and its compression.

    Raises:
        SpaceError: the compression has another number of stages or blocks.
    """

    architecture: Architecture
    compression: Compression

    def __post_init__(self) -> None:
        built = [len(stage.blocks) for stage in self.architecture.stages]
        for part in ("mixer", "mlp"):
            given = [len(getattr(stage, part)) for stage in self.compression.stages]
            if given != built:
                raise SpaceError(
                    f"compression: need one {part} policy a block, {built} in the stages; "
                    f"got {given}"
                )

    @classmethod
    def uncompressed(cls, architecture: Architecture) -> Candidate:
        """The architecture in float32 with nothing pruned."""
        depths = [len(stage.blocks) for stage in architecture.stages]
        plain = tuple(StagePolicy((Policy(),) * n, (Policy(),) * n) for n in depths)
        return cls(architecture, Compression(plain))

    def without_exits(self) -> Candidate:
        """The same network, which all images run through to the end."""
        if not has_exits(self.architecture):
            return self
        return replace(self, architecture=without_exits(self.architecture))

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that name this candidate everywhere."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and scalars, without defaults."""
        a, c = self.architecture, self.compression
        stages = [to_plain(s) | {"blocks": [_plain_block(b) for b in s.blocks]} for s in a.stages]
        policies = [_plain_stage_policy(stage) for stage in c.stages]
        parts = {part: _plain_policy(getattr(c, part)) for part in ("stem", "head")}
        compression = {part: plain for part, plain in parts.items() if plain}
        return {
            "version": FORMAT_VERSION,
            "architecture": to_plain(a) | {"stages": stages},
            "compression": compression | ({"stages": policies} if any(policies) else {}),
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted names, no spaces, no defaults."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_dict`; other names beside it, such as "key", are ignored.

        Raises:
            SpaceError: an unknown name, a wrong value, a combination that cannot work, or a newer
                format version.
        """
        data = mapping(data, "candidate")
        version = data.get("version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise SpaceError(
                f"candidate: format version must be {FORMAT_VERSION}, got {version!r}; "
                "another release of vitpareto wrote it"
            )
        if "architecture" not in data:
            raise SpaceError("candidate: 'architecture' must be given")
        architecture = from_plain(
            Architecture, data["architecture"], "architecture", stages=_stages
        )
        check(architecture)
        depths = [len(stage.blocks) for stage in architecture.stages]

        def policies(raw: object, where: str) -> tuple[StagePolicy, ...]:
            listed = sequence(raw, where)
            if len(listed) != len(depths):
                raise SpaceError(f"{where}: need {len(depths)} stages, got {len(listed)}")
            return tuple(
                _stage_policy(stage, depth, f"{where}[{i}]")
                for i, (stage, depth) in enumerate(zip(listed, depths, strict=True))
            )

        compression: dict[str, Any] = {"stages": [{}] * len(depths)}
        compression |= mapping(data.get("compression", {}), "compression")
        return cls(
            architecture,
            from_plain(
                *(Compression, compression, "compression"),
                stages=policies,
                stem=policy_from_plain,
                head=policy_from_plain,
            ),
        )

    @classmethod
    def from_json(cls, text: str) -> Candidate:
        """Inverse of `to_json`.

        Raises:
            SpaceError: not JSON, or not a candidate.
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SpaceError(f"candidate: not JSON: {error}") from error
        return cls.from_dict(data)


@lru_cache(maxsize=1 << 16)
def _plain_block(block: Block) -> dict[str, Any]:
    return to_plain(block) | {"mixer": block.mixer} | dict(block.numbers)


@lru_cache(maxsize=1 << 16)
def _plain_policy(policy: Policy) -> dict[str, Any]:
    return policy.changes()


@lru_cache(maxsize=1 << 16)
def _plain_stage_policy(stage: StagePolicy) -> dict[str, Any]:
    plain: dict[str, Any] = {
        part: [_plain_policy(policy) for policy in getattr(stage, part)]
        for part in ("mixer", "mlp")
    }
    plain = {part: policies for part, policies in plain.items() if any(policies)}
    if downsample := _plain_policy(stage.downsample):
        plain["downsample"] = downsample
    return plain


def _stages(data: object, where: str) -> tuple[Stage, ...]:
    return tuple(
        from_plain(Stage, stage, f"{where}[{i}]", blocks=_blocks)
        for i, stage in enumerate(sequence(data, where))
    )


def _blocks(data: object, where: str) -> tuple[Block, ...]:
    return tuple(
        from_plain(Block, block, f"{where}[{j}]", mixers.block_defaults())
        for j, block in enumerate(sequence(data, where))
    )


def _policies(data: object, where: str) -> tuple[Policy, ...]:
    return tuple(policy_from_plain(p, f"{where}[{j}]") for j, p in enumerate(sequence(data, where)))


def _stage_policy(data: object, depth: int, where: str) -> StagePolicy:
    given: dict[str, Any] = {"mixer": [{}] * depth, "mlp": [{}] * depth}
    given |= mapping(data, where)
    return from_plain(
        *(StagePolicy, given, where),
        mixer=_policies,
        mlp=_policies,
        downsample=policy_from_plain,
    )
