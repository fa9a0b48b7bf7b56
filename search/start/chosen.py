"""Chosen: a derived space with only the choices that somebody names, for each layer its own.

For a person whose network should keep its architecture and only become smaller or faster.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...spaces import Scalar
from ...spaces.errors import SpaceError, did_you_mean
from ...spaces.schema import NETWORK, POLICY, default, plain, specific
from ...spaces.transforms import policy_transforms

TOGETHER = {"token_keep": ("token_keep", "token_keep_at", "token_reduction")}
BITS = ("weight_bits", "act_bits")  # which stem and head have, too
SHARES = (0.0, 0.25, 0.5)  # of what a policy or a capacity takes, where a derived space is silent
FLOAT, INTEGER = 32, 8  # bits of stem and head


def with_choices(
    spec: Mapping[str, Any], names: Sequence[str], applies: Collection[str]
) -> dict[str, Any]:
    """A space file with the named choices, and all else as the network has it.

    Args:
        spec: of a derived space, whose lists begin with what the network has.
        names: of choices of the space, or of policies: `weight_bits` is searched for mixer and
            MLP of every block, for stem and head; `mlp_weight_bits` for MLPs alone.
        applies: policies of blocks, such as `mixer_rank_ratio`, that do something to the network,
            and `mixer_capacity` and `mlp_capacity` where they do.

    Raises:
        SpaceError: the network has no such choice.
    """
    offered = _choices(spec)
    known = (offered - {f for fields in TOGETHER.values() for f in fields[1:]}) | {*applies}
    known |= {name for name in POLICY if set(specific(name)) & set(applies)}
    for name in names:
        if name not in known:
            raise SpaceError(f"no choice {name!r} for this network. {did_you_mean(name, known)}")
    wanted = {field for name in names for field in (*TOGETHER.get(name, ()), *specific(name))}
    narrow = {name: _kept(name, value, wanted) for name, value in spec.items() if name != "stages"}
    for name in BITS:
        for part in ("stem", "head"):
            if name in names and f"{part}_{name}" in NETWORK:
                narrow[f"{part}_{name}"] = [FLOAT, INTEGER]
    stages = [_stage(stage, wanted, wanted & set(applies)) for stage in spec["stages"]]
    return narrow | {"stages": stages}


def _choices(spec: Mapping[str, Any]) -> set[str]:
    """Names of what varies in a space file; policies by both of their names."""
    found = set[str]()
    for name, value in spec.items():
        if name == "stages" or (name == "blocks" and isinstance(value, list)):
            found |= {name for one in value for name in _choices(one)}
        elif name in ("blocks", "groups"):
            found |= _choices(value)
        elif _varies(value):
            found |= {name, *specific(name)}
    return found


def _varies(value: Any) -> bool:
    return isinstance(value, (list, dict))


def _kept(name: str, value: Any, wanted: Collection[str]) -> Any:
    """The choice, or the value that the network has."""
    if name in wanted or not _varies(value):
        return value
    return value["high"] if isinstance(value, dict) else value[0]


def _stage(
    stage: Mapping[str, Any], wanted: Collection[str], policies: Collection[str]
) -> dict[str, Any]:
    groups = {name: v for name, v in stage.get("groups", {}).items() if name != "size"}
    around = {name: v for name, v in stage.items() if name not in ("groups", "blocks")}
    outer = {n: _kept(n, value, wanted) for n, value in around.items() if n not in POLICY}

    def block(own: Mapping[str, Any]) -> dict[str, Any]:
        inner = {**groups, **own}
        said = {name: value for name, value in (around | inner).items() if name in POLICY}
        kept = {n: _kept(n, value, wanted) for n, value in inner.items() if n not in said}
        for field in sorted(policies):
            name = field.partition("_")[2]
            kept[field] = inner.get(field) or said.get(name) or _values(field)
        return kept

    own = stage["blocks"]
    return outer | {"blocks": [block(o) for o in own] if isinstance(own, list) else block(own)}


def _values(field: str) -> list[Scalar]:
    """Of a policy or a capacity, beginning with nothing done."""
    name = plain(field)
    transform = policy_transforms().get(name)
    if transform and transform.values:
        return sorted(transform.values, key=lambda value: value != transform.default)
    return [abs(float(default(name)) - share) for share in SHARES]
