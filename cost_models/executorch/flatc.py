"""Flatc: the compiler of flatbuffers and the schemas that come with ExecuTorch."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...spaces.errors import CostError, last_line

INFINITE = re.compile(r'(?<!\\)(": -?)inf\b')  # as flatc writes it, which is not JSON
PROGRAM = "schema/program.fbs"
XNNPACK = "backends/xnnpack/serialization/schema.fbs"


def compiled(schema: str, content: Mapping[str, Any]) -> bytes:
    """A flatbuffer.

    Args:
        schema: `PROGRAM` or `XNNPACK`.
        content: of its root table.

    Raises:
        CostError: the schema of the installed release has no such table or field.
        ModuleNotFoundError: ExecuTorch is not installed.
    """
    with TemporaryDirectory() as folder:
        source = Path(folder) / "content.json"
        source.write_text(json.dumps(content), encoding="utf-8")
        _flatc("--binary", "-o", folder, _home() / schema, source)
        (made,) = (path for path in Path(folder).iterdir() if path != source)
        return made.read_bytes()


def decompiled(schema: str, content: bytes) -> dict[str, Any]:
    """Content of a flatbuffer, as `compiled` takes it.

    Raises:
        CostError: it cannot be read.
        ModuleNotFoundError: ExecuTorch is not installed.
    """
    with TemporaryDirectory() as folder:
        source = Path(folder) / "content.bin"
        source.write_bytes(content)
        options = ("--json", "--defaults-json", "--strict-json", "--raw-binary", "-o", folder)
        _flatc(*options, _home() / schema, "--", source)
        text = (Path(folder) / "content.json").read_text(encoding="utf-8")
        return json.loads(INFINITE.sub(r"\1Infinity", text))


def _home() -> Path:
    found = find_spec("executorch")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'executorch'", name="executorch")
    return Path(found.submodule_search_locations[0])


def _flatc(*words: str | Path) -> None:
    command = [_home() / "data" / "bin" / "flatc", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CostError(f"ExecuTorch: flatc: {last_line(done.stderr or done.stdout)}")
