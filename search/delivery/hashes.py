"""Hashes: by which files that must not change are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...spaces.errors import RunError


def hashes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of files by name."""
    return {name: _sha256((folder / name).read_bytes()) for name in names}


def changed_file(folder: Path, wanted: Mapping[str, str]) -> str:
    """Name of the first file that has changed; empty if none has.

    Raises:
        RunError: a file is missing, or is outside of the folder.
    """
    for name, digest in wanted.items():
        path = folder / name
        # The manifest may have been edited, so its names are not trusted.
        if Path(name).name != name or path.is_symlink():
            raise RunError(f"{folder}: the manifest names {name!r}, which is outside of the folder")
        if not path.is_file():
            raise RunError(f"{path}: missing")
        if _sha256(path.read_bytes()) != digest:
            return name
    return ""


def digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of plain data, whatever their order."""
    return _sha256(json.dumps(body, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
