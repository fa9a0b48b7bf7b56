"""Seal: JSON files that hold their own hash, and the hashes of files that belong to them.

They tell what was edited or cut short on its way. This file needs nothing but Python: it is copied
into kits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class SealError(ValueError):
    """A file that is not what it was when it was sealed; one line."""


def write_sealed(path: Path, body: Mapping[str, Any]) -> None:
    """Write JSON with its hash, atomically."""
    temporary = path.with_name(f".{path.name}")
    text = json.dumps({**body, "digest": digest(body)}, indent=1)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def read_sealed(path: Path, form: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote, with its hash.

    Args:
        path: of the file.
        form: what it says that it is, under "format".

    Raises:
        SealError: it is missing, something else, or was edited.
    """
    try:
        body: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SealError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SealError(f"{path}: not JSON: {error}") from error
    if not isinstance(body, dict) or body.get("format") != form:
        raise SealError(f"{path}: not a {form}: its format must say so")
    if body.get("version") != 1:
        raise SealError(f"{path}: version must be 1, got {body.get('version')!r}")
    if body.get("digest") != digest(body):
        raise SealError(f"{path}: was edited: its content does not have the hash that it names")
    return body


def digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of the values in a file, without that hash itself."""
    kept = {name: value for name, value in body.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of files in a folder, by their names there with slashes."""
    return {name: sha256(folder / name) for name in sorted(names)}


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Check that files are there and have their hashes.

    Raises:
        SealError: naming the first that is not.
    """
    for name, wanted in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or path.is_symlink():
            raise SealError(f"{folder}: names {name!r}, which is outside of the folder")
        if not path.is_file():
            raise SealError(f"{path}: missing")
        if sha256(path) != wanted:
            raise SealError(f"{path}: was edited: it does not have the hash that it had")
