"""Model file: the JSON file of a cost model, and how it is told from all others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...spaces.errors import CostError

FORMAT = 1
NAME = "vitpareto cost model"


def is_model_file(path: str | Path) -> bool:
    """Whether a file is one that `CostModel.save` wrote, whole or damaged."""
    if Path(path).suffix != ".json":
        return False
    try:
        return f'"{NAME}"' in Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def read_model(path: str | Path) -> Any:
    """What is in a file that may hold a cost model.

    Raises:
        CostError: no such file, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CostError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CostError(f"{path}: not JSON: {error}") from error


def check_model(data: Any) -> None:
    """Check that data are a cost model, and that what predicts is there and finite.

    From NaN follow NaNs, without a word.

    Raises:
        CostError: they are not, or of a newer version.
    """
    if not isinstance(data, Mapping) or data.get("format") != NAME:
        raise CostError("not a cost model: it has no name 'format' that says so")
    if data.get("version") != FORMAT:
        raise CostError(
            f"version must be {FORMAT}, got {data.get('version')!r}: the model was written "
            "by another release of vitpareto"
        )
    if data.get("groups") == {}:
        raise CostError("a cost model of no sub-blocks: groups is empty")
    for name in ("correction", "interval", "memory", "size", "groups", "energy"):
        if not _is_finite(data.get(name)):
            raise CostError(f"{name} holds a number that is not finite")


def _is_finite(value: Any) -> bool:
    """Whether all numbers in plain data are."""
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
