"""JSON files, read, and written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...spaces.errors import RunError
from ...spaces.files import append_synced, sync_folder, write_atomic

__all__ = ["append_synced", "read_json", "sync_folder", "write_atomic", "write_json"]


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically."""
    write_atomic(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read the value in a JSON file.

    Raises:
        RunError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path}: not JSON: {error}") from error
