"""Reading: a run file and its overrides, checked key by key before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ...spaces.errors import ConfigError
from ...spaces.safe_yaml import line_of, parse_as_typed, parse_yaml, read_text
from ...spaces.space import find_file
from ..yaml_paths import check_comments, make_absolute
from .messages import one_line
from .run import RunConfig

PRESETS = Path(__file__).parents[2] / "configs" / "runs"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file, or a preset by its name.

    What the schema takes as text stays as it was typed, be it 01 or no. Relative paths of a file
    start at its folder, those of presets and of overrides at the current one; all are absolute in
    the result.

    Args:
        path: file or preset.
        overrides: "section.key=value", the value in YAML; of a text, as it is.

    Raises:
        ConfigError: names file, line and key or the override, the rule, and what was given.
    """
    file = find_file(path, PRESETS, "run")
    text, source = read_text(file), str(file)
    folder = Path.cwd() if file.parent.resolve() == PRESETS.resolve() else file.parent
    raw = _as_meant(parse_yaml(text, source), parse_as_typed(text, source), RunConfig)
    check_comments(raw, text, source, folder)
    make_absolute(raw, folder)
    overridden = {_set(raw, override): f"--set {override}" for override in overrides}
    make_absolute(raw, Path.cwd())
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        keys = [str(part) for part in error.errors()[0]["loc"]]
        set_here = [
            option
            for key, option in overridden.items()
            if all(a == b for a, b in zip(key, keys, strict=False))
        ]
        line = f"{file}: line {line_of(text, keys)}"
        raise ConfigError(f"{[line, *set_here][-1]}: {one_line(error, RunConfig)}") from None


def _set(raw: dict[str, Any], override: str) -> tuple[str, ...]:
    """Change a key of a mapping and return its path."""
    key, sign, text = override.partition("=")
    *sections, last = keys = key.split(".")
    if not sign or not all(keys):
        raise ConfigError(f"--set {override}: need key=value, such as search.trials=300")
    value = _value(text.strip(), f"--set {override}", _kind_at(keys))
    for section in sections:
        below = raw.setdefault(section, {})
        if isinstance(below, list) and section == "device":
            raise ConfigError(
                f"--set {override}: there are several devices: give them anew, such as "
                f"--set 'device=[{{name: cpu-1t, {last}: {text.strip()}}}, cpu-2t]'"
            )
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override}: {section!r} holds no keys")
        raw = below
    raw[last] = value
    return tuple(keys)


def _value(text: str, source: str, kind: Any) -> Any:
    """The value of an override: where a text is asked for, what was typed; else YAML.

    Quotes around a text are YAML's all the same.
    """
    if _takes_text(kind) and text[:1] not in ("'", '"'):
        return None if kind is not str and text in ("", "~", "null") else text
    text = f"value: {text}"
    return _as_meant(parse_yaml(text, source)["value"], parse_as_typed(text, source)["value"], kind)


def _as_meant(value: Any, typed: Any, kind: Any) -> Any:
    """A value from YAML, with what its type takes as text as it was typed.

    Args:
        value: numbers, booleans and null included.
        typed: the same, all of it text.
        kind: type that the schema asks for.
    """
    if isinstance(value, list) and _is_section(kind):  # of which some may be names alone
        pairs = zip(value, typed, strict=True)
        return [_as_meant(v, t, kind if isinstance(v, dict) else str) for v, t in pairs]
    if isinstance(value, dict) and _is_section(kind):
        return {k: _as_meant(v, typed.get(k), _kind_at([k], kind)) for k, v in value.items()}
    if _takes_text(kind) and isinstance(typed, str) and (value is not None or kind is str):
        return typed
    return value


def _kind_at(keys: Sequence[str], kind: Any = None) -> Any:
    """Type that the schema, or one of its sections, asks for at a key; None where it has none."""
    kind = kind or RunConfig
    for key in keys:
        field = kind.model_fields.get(key) if _is_section(kind) else None
        kind = field.annotation if field else None
        kind = next(filter(_is_section, get_args(kind)), kind)  # of a section, or a list of them
    return kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _takes_text(kind: Any) -> bool:
    return kind in (str, str | None)
