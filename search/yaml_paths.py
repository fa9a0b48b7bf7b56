"""Paths in run files: made absolute, and not cut by a comment."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..spaces.errors import ConfigError
from ..spaces.safe_yaml import comment_behind, line_of
from ..spaces.space import is_file_name

PATHS = (
    "data.root",
    "data.classes",
    "start.checkpoint",
    "start.classes",
    "teacher.checkpoint",
    "device.cost_model",
)
PATHS_OR_NAMES = ("space", "device.name")  # names of presets stay as they are
# A name, or a folder with or without the prefix.
MODELS, LOCAL = ("start.model", "space.from"), "local-dir:"


def make_absolute(raw: dict[str, Any], folder: Path) -> None:
    """Make the paths of a run absolute, in place.

    Args:
        raw: section -> key -> value, as in a run file.
        folder: where relative paths start.
    """
    for key in (*PATHS, *PATHS_OR_NAMES):
        for section, name in _values(raw, key):
            value = section[name]
            if isinstance(value, str) and value and (key in PATHS or is_file_name(value)):
                section[name] = absolute(value, folder)
    for key in MODELS:
        section, name = _section(raw, key)
        if isinstance(value := section.get(name), str):
            section[name] = _absolute_model(value, folder)


def _absolute_model(name: str, folder: Path) -> str:
    """A model's name; where it is a folder, with its path made absolute.

    >>> _absolute_model("vit_tiny_patch16_224", Path("/runs"))
    'vit_tiny_patch16_224'
    >>> _absolute_model("hf-hub:timm/vit", Path("/runs"))
    'hf-hub:timm/vit'
    """
    local, path = name.startswith(LOCAL), name.removeprefix(LOCAL)
    if not local and (":" in name or len(Path(path).parts) < 2):
        return name
    return LOCAL * local + absolute(path, folder)


def absolute(path: str, folder: Path) -> str:
    """A path with `~` for the home folder expanded; a relative one starts at a folder.

    A relative one that is not there but in the current folder is taken from the latter, where
    earlier releases looked.
    """
    plain = Path(path)
    with contextlib.suppress(RuntimeError):  # "~name" of nobody is a name like others
        plain = plain.expanduser()
    wanted, here = folder.resolve() / plain, Path.cwd() / plain
    return str(here if _exists(here) and not _exists(wanted) else wanted)


def _exists(path: Path) -> bool:
    """Whether there is something, as far as can be seen from here."""
    try:
        return path.exists()
    except OSError:  # a folder above must not be entered
        return False


def check_comments(raw: dict[str, Any], text: str, source: str, folder: Path) -> None:
    """Check that YAML took no part of a path for a comment, as it does from ` #` on.

    Args:
        raw: the content of a run file, as it was read.
        text: of the file.
        source: its name in errors.
        folder: where relative paths start.

    Raises:
        ConfigError: the path with its comment exists.
    """
    for key in (*PATHS, *PATHS_OR_NAMES):
        section, name = _section(raw, key)
        comment = comment_behind(text, key.split("."))
        for whole in _prefixes(f"{section[name]}{comment}")[1:] if comment else ():
            if _exists(Path(absolute(whole, folder))):
                raise ConfigError(
                    f"{source}: line {line_of(text, key.split('.'))}: {key}: YAML takes # behind "
                    f"a space for a comment, but {whole!r} exists: put the path in quotes"
                )


def _section(raw: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds a key, empty where there is none, and the last part of the key."""
    *sections, name = key.split(".")
    for section in sections:
        below = raw.get(section)
        raw = below if isinstance(below, dict) else {}
    return raw, name


def _values(raw: dict[str, Any], key: str) -> list[tuple[Any, Any]]:
    """Where the values of a key are: what holds each, and its key or number there.

    A section may be a list of mappings, or of what the key `name` of each would say.
    """
    section, name = _section(raw, key)
    if isinstance(listed := raw.get(key.partition(".")[0]), list):
        held = [(item, name) for item in listed if isinstance(item, dict) and name in item]
        alone = [(listed, i) for i, item in enumerate(listed) if isinstance(item, str)]
        return held + (alone if name == "name" else [])
    return [(section, name)] if name in section else []


def _prefixes(text: str) -> Sequence[str]:
    """What may be meant by a text with comments: as far as the first, the second, ... of them.

    >>> _prefixes("photos #2 # mine")
    ['photos', 'photos #2', 'photos #2 # mine']
    """
    return [text[: match.start()] for match in re.finditer(r"\s+#|$", text)]
