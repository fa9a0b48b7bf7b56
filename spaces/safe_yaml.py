"""Safe reading of untrusted YAML: plain data, small, no duplicate keys, no alias bombs.

Plain scalars are read as the core schema of YAML 1.2 does (10.3.2 of its specification), not as
PyYAML's 1.1: 1e-6 is a number; no, 12:30 and 2024-01-01 are text. Merge keys (<<) are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import yaml

from .errors import ConfigError, first_line

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000


_TAG = "tag:yaml.org,2002:"
# Type -> pattern, and the characters with which a match begins ("" for an empty scalar).
_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


class _TextLoader(yaml.SafeLoader):
    """SafeLoader that takes plain scalars as the text that they are.

    It refuses a key given twice, which YAML forbids and PyYAML lets pass.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 # of 1.1
    yaml_constructors = {  # noqa: RUF012 # neither dates nor sets, however they are tagged
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in (*_CORE, "str", "seq", "map")
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping as it is written, before others are merged into it."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        None, None, f"key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> Any:
        """Merge other mappings in: the first that has a key, and over all of them its own.

        PyYAML tells keys apart by where their text is in memory, so that what was overridden in a
        mapping may come back where this is merged in turn.
        """
        own = [pair for pair in node.value if pair[0].tag != f"{_TAG}merge"]
        if len(own) == len(node.value):
            return
        super().flatten_mapping(node)
        merged = node.value[: len(node.value) - len(own)]
        pairs: dict[object, tuple[yaml.Node, yaml.Node]] = {}
        for pair in merged:
            pairs.setdefault(_key_of(pair[0]), pair)
        node.value = list((pairs | {_key_of(pair[0]): pair for pair in own}).values())


def _key_of(key: yaml.Node) -> object:
    """What is equal for keys that are the same in a mapping."""
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


class _Loader(_TextLoader):
    """The same with the types of the core schema."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes text that only the core schema takes for a number."""


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)  # 010 is ten


_TextLoader.add_implicit_resolver(f"{_TAG}merge", re.compile("^<<$"), ["<"])
for _name, (_pattern, _first) in _CORE.items():
    for _reader in (_Loader, _Dumper):
        _reader.add_implicit_resolver(_TAG + _name, re.compile(f"^({_pattern})$"), list(_first))
_Loader.add_constructor(f"{_TAG}int", _int)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: no such file, too large, not YAML, or not a mapping.
    """
    return parse_yaml(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        ConfigError: no such file, too large, or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(
                f"{path}: a file of {size} bytes; at most {MAX_BYTES} are read, as a "
                "hand-written file never needs more"
            )
        return path.read_text(encoding="utf-8-sig")  # Windows' editors begin with a mark
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text; `source` names it in errors.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    return _parsed(text, source, _Loader)


def parse_as_typed(text: str, source: str) -> dict[str, Any]:
    """The same mapping with numbers, booleans and null as the text that was typed."""
    return _parsed(text, source, _TextLoader)


def _parsed(text: str, source: str, loader: type[yaml.SafeLoader]) -> dict[str, Any]:
    try:
        data: object = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError) as error:
        raise ConfigError(f"{source}: {_one_line(error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: need a mapping of names to values, got {_kind(data)}")
    if _expanded(data, {}) > MAX_VALUES:
        raise ConfigError(f"{source}: expands to more than {MAX_VALUES} values through aliases")
    return cast("dict[str, Any]", data)


def dump_yaml(data: Any) -> str:
    """Plain data as YAML, which reads the same here and by 1.1."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def line_of(text: str, keys: Sequence[str]) -> int:
    """Line of a key, counted from 1; if it is missing, of the deepest key above it.

    Args:
        text: YAML that `parse_yaml` takes.
        keys: of the mappings on the way, and the key itself.
    """
    return _found(text, keys)[0]


def comment_behind(text: str, keys: Sequence[str]) -> str:
    """The comment right behind the unquoted value of a key, with the space before it; or ""."""
    _, node = _found(text, keys)
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return ""
    rest = text[node.end_mark.index :].partition("\n")[0].rstrip()
    return rest if rest.lstrip().startswith("#") else ""


def _found(text: str, keys: Sequence[str]) -> tuple[int, yaml.Node | None]:
    """Line of a key or of the deepest one above it, and the value of the key if it is there."""
    node, line = _composed(text), 1
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        matches = [(name, value) for name, value in pairs if name.value == key]
        if not matches:
            return line, None
        name, node = matches[0]
        line = name.start_mark.line + 1
    return line, node


@lru_cache(maxsize=1)  # a text is asked about many keys
def _composed(text: str) -> yaml.Node | None:
    return yaml.compose(text, Loader=_Loader)


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return f"not YAML: {first_line(error)}"


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
