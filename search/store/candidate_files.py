"""Candidate files, as `space sample --json` prints them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ...spaces import Candidate, ConfigError, SpaceError
from .atomic_files import read_json


def read_candidates(path: Path) -> list[Candidate]:
    """Read the candidates of a JSON file, one or a list of them.

    Raises:
        ConfigError: the file cannot be read, is not JSON or holds none.
        SpaceError: something in it is no candidate.
    """
    raw = read_json(path)
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
