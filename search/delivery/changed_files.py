"""Changed files: whether a delivered folder is what its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...cost_models.standalone.seal import sha256
from ...spaces.errors import RunError


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
        if sha256(path) != digest:
            return name
    return ""
