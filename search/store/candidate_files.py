"""Candidate files: JSON as `space sample --json` prints it, or YAML of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ...spaces import Candidate, ConfigError, SpaceError
from ...spaces.safe_yaml import read_yaml
from .atomic_files import read_json

YAML = (".yaml", ".yml")
SUFFIXES = (".json", *YAML)


def read_candidates(path: Path) -> list[Candidate]:
    """Read the candidates of a file: one, or in JSON a list of them.

    Raises:
        ConfigError: YAML that cannot be read, or a file that holds none.
        RunError: JSON that cannot be read.
        SpaceError: something in it is no candidate.
    """
    raw = read_yaml(path) if path.suffix in YAML else read_json(path)
    listed: list[Any] = cast("list[Any]", raw) if isinstance(raw, list) else [raw]
    if not listed:
        raise ConfigError(f"{path}: holds no candidate")
    candidates: list[Candidate] = []
    for index, data in enumerate(listed):
        try:
            candidates.append(Candidate.from_dict(data))
        except SpaceError as error:
            raise SpaceError(f"{path}: [{index}]: {error}") from None
    return candidates
