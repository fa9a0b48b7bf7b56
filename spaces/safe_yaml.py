"""Safe reading of untrusted YAML: plain data, small, no duplicate keys, no alias bombs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from .errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        None, None, f"key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: no such file, too large, not YAML, or not a mapping.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(
                f"{path}: a file of {size} bytes; at most {MAX_BYTES} are read, as a "
                "hand-written file never needs more"
            )
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text; `source` names it in errors.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        data: object = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source}: {_one_line(error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: need a mapping of names to values, got {_kind(data)}")
    if _expanded(data, {}) > MAX_VALUES:
        raise ConfigError(f"{source}: expands to more than {MAX_VALUES} values through aliases")
    return cast("dict[str, Any]", data)


def line_of(text: str, keys: Sequence[str]) -> int:
    """Line of a key, counted from 1; if it is missing, of the deepest key above it.

    Args:
        text: YAML that `parse_yaml` takes.
        keys: of the mappings on the way, and the key itself.
    """
    node, line = yaml.compose(text, Loader=_Loader), 1
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        matches = [(name, value) for name, value in pairs if name.value == key]
        if not matches:
            break
        name, node = matches[0]
        line = name.start_mark.line + 1
    return line


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return f"not YAML: {str(error).splitlines()[0]}"


def _kind(data: object) -> str:
    return "an empty file" if data is None else f"a {type(data).__name__}"


def _expanded(data: object, sizes: dict[int, int]) -> int:
    """Number of values when every alias is written out; shared objects are walked once."""
    if not isinstance(data, dict | list):
        return 1
    if id(data) not in sizes:
        sizes[id(data)] = MAX_VALUES + 1  # a mapping that contains itself never ends
        children = list(data.values()) if isinstance(data, dict) else data
        sizes[id(data)] = 1 + sum(_expanded(child, sizes) for child in children)
    return sizes[id(data)]
