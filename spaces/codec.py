"""Codec: frozen dataclasses of scalars to plain dicts and back, naming whatever does not fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar, cast

from . import architecture as a
from . import mixers
from .compression import Policy
from .errors import SpaceError, did_you_mean
from .transforms import policy_transforms

T = TypeVar("T")

CHOICES: dict[str, Collection[str | int]] = {
    "mixer": mixers.MIXERS,
    "stem": a.STEMS,
    "pos_embed": a.POS_EMBEDS,
    "global_pool": a.GLOBAL_POOLS,
    "norm": a.NORMS,
    "final_norm": a.FINAL_NORMS,
    "mlp": a.MLPS,
    "act": a.ACTS,
    "downsample": a.DOWNSAMPLES,
    "stage_act": a.ACTS,
    "se_gate": a.SE_GATES,
    "token_reduction": a.TOKEN_REDUCTIONS,
    "token_routing": a.TOKEN_ROUTINGS,
}
RANGES: dict[str, tuple[float, float]] = {
    "token_keep": (0.01, 1),
    "mlp_capacity": (0.01, 1),
    "mixer_capacity": (0.01, 1),
    "width": (1, 16384),
    "input_size": (1, 4096),
    "patch_size": (1, 1024),
    "in_chans": (1, 1024),
    "num_classes": (0, 1_000_000),
    "registers": (0, 1024),
    "pool_heads": (1, 1024),
    "pool_mlp_ratio": (0.01, 64),
    "depth": (1, 256),
    "stride": (1, 2),
    "downsample_ratio": (0, 16),
    "downsample_kernel": (1, 31),
    "downsample_se_ratio": (0, 16),
    "downsample_head_dim": (1, 1024),
}
KINDS = {int: "a whole number", float: "a number", str: "a name", bool: "true or false"}


def scalar(name: str, raw: object, kind: type[Any], where: str) -> Any:
    """A value of a field, checked for type, choice and range.

    Args:
        name: the field.
        raw: what was given.
        kind: the field's type; a whole number will do for a float.
        where: position in the file, for the message.

    Raises:
        SpaceError: naming the position, the rule and what was given.
    """
    if kind is float and type(raw) is int:
        raw = float(raw)
    if type(raw) is not kind:
        raise SpaceError(f"{where}: need {KINDS[kind]}, got {short(raw)}")
    options, (low, high) = _allowed(name)
    if options and raw not in options:
        hint = did_you_mean(str(raw), map(str, options))
        raise SpaceError(f"{where}: no such value {raw!r}. {hint}")
    if isinstance(raw, int | float) and not options and not low <= raw <= high:
        raise SpaceError(f"{where}: must be between {low} and {high}, got {raw!r}")
    return raw


def _allowed(name: str) -> tuple[Collection[Any], tuple[float, float]]:
    """Options and range of a field; those of mixers and transforms are in their files."""
    if number := mixers.fields().get(name):
        return number.options, (number.low, number.high)
    if transform := policy_transforms().get(name):
        return transform.values, transform.range
    return CHOICES.get(name, ()), RANGES.get(name, (0, 1_000_000))


def to_plain(value: Any) -> dict[str, Any]:
    """The scalar fields of a dataclass that differ from their defaults."""
    return {
        name: field
        for name, default in defaults(type(value)).items()
        if (field := getattr(value, name)) != default and isinstance(field, str | int | float)
    }


def from_plain(
    kind: type[T],
    data: object,
    where: str,
    known: Mapping[str, Any] | None = None,
    **convert: Callable[[object, str], object],
) -> T:
    """Inverse of `to_plain`; fields that are no scalars need a function in `convert`.

    Args:
        kind: what to make.
        data: names and values.
        where: position in the file, for messages.
        known: its arguments and their defaults, where they are not the fields of `kind`.
        **convert: field -> its value from what is given and where.

    Raises:
        SpaceError: an unknown or missing name, or a value that is not allowed.
    """
    return kind(**_values(defaults(kind) if known is None else known, data, where, convert))


def policy_from_plain(data: object, where: str) -> Policy:
    """A policy from the fields that differ from their defaults, inverse of `Policy.changes`.

    Raises:
        SpaceError: an unknown name, or a value that is not allowed.
    """
    known = {name: transform.default for name, transform in policy_transforms().items()}
    return Policy(**_values(known, data, where, {}))


def _values(
    known: Mapping[str, Any],
    data: object,
    where: str,
    convert: Mapping[str, Callable[[object, str], object]],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in mapping(data, where).items():
        if name not in known:
            raise SpaceError(f"{where}: unknown name {name!r}. {did_you_mean(name, known)}")
        place = f"{where}.{name}"
        if name in convert:
            values[name] = convert[name](value, place)
        else:
            wanted = int if known[name] is MISSING else type(known[name])
            values[name] = scalar(name, value, wanted, place)
    missing = [n for n, default in known.items() if default is MISSING and n not in values]
    if missing:
        raise SpaceError(f"{where}: {missing[0]!r} must be given")
    return values


@cache
def defaults(kind: type[Any]) -> dict[str, Any]:
    """Default of every field of a dataclass, or dataclasses.MISSING."""
    return {field.name: field.default for field in fields(kind)}


def mapping(data: object, where: str) -> Mapping[str, Any]:
    """`data` if it is a mapping from names.

    Raises:
        SpaceError: it is not.
    """
    if not isinstance(data, Mapping):
        raise SpaceError(f"{where}: need names and values, got {short(data)}")
    for name in cast("Iterable[object]", data):
        if not isinstance(name, str):
            raise SpaceError(f"{where}: a name must be text, got {name!r}")
    return cast("Mapping[str, Any]", data)


def sequence(data: object, where: str) -> list[Any]:
    """`data` if it is a list with at least one item.

    Raises:
        SpaceError: it is not.
    """
    if not isinstance(data, list) or not data:
        raise SpaceError(f"{where}: need a list with at least one item, got {short(data)}")
    return cast("list[Any]", data)


def short(value: object) -> str:
    """`repr` that fits into a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
