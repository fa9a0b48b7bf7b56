"""Manifest: everything that is claimed of an artifact, sealed with hashes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ...spaces.errors import RunError
from ..store.atomic_files import read_json, write_json
from .artifact import MANIFEST

FORMAT_VERSION = 1
NEEDED = (
    *("key", "finalists", "device", "identity", "recipes", "compensated", "promised", "anchors"),
    *("trained", "files", "digest"),
)
PACKAGES = ("vitpareto", "torch", "onnx", "onnxruntime", "numpy", "safetensors")

Manifest = dict[str, Any]


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest with its own hash, atomically.

    Raises:
        RunError: the folder cannot be written.
    """
    body = {"format_version": FORMAT_VERSION} | {k: v for k, v in manifest.items() if k != "digest"}
    write_json(folder / MANIFEST, body | {"digest": _digest(body)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact.

    Raises:
        RunError: it is missing, damaged or edited, or of a later release.
    """
    path = folder / MANIFEST
    found = read_json(path)
    if not isinstance(found, dict):
        raise RunError(f"{path}: not a manifest: needs names and values")
    version = found.get("format_version")
    if not isinstance(version, int):
        raise RunError(f"{path}: not a manifest: format_version must be a number, got {version!r}")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{path}: format version {version} is newer than {FORMAT_VERSION}: it was written by "
            "a later release of vitpareto"
        )
    for name in NEEDED:
        if name not in found:
            raise RunError(f"{path}: not a manifest: lacks {name!r}")
    if found["digest"] != _digest({k: v for k, v in found.items() if k != "digest"}):
        raise RunError(f"{path}: was edited: its content does not have the hash that it names")
    if found["key"] != folder.name:
        raise RunError(f"{path}: is that of {found['key']!r}, not of its folder")
    return found


def manifests(pareto: Path) -> list[Manifest]:
    """The manifests of a run, the fastest model first, those without measurements last.

    Args:
        pareto: folder of all artifacts of a run.

    Raises:
        RunError: there are none, or one is refused by `read_manifest`.
    """
    folders = sorted(path for path in pareto.glob("[!.]*") if path.is_dir())
    found = [read_manifest(folder) for folder in folders]
    if not found:
        raise RunError(f"{pareto}: no delivered models; continue the run with --resume")
    return sorted(found, key=lambda m: m.get("metrics", {}).get("latency_ms", float("inf")))


def hashes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of files by name."""
    return {name: _sha256((folder / name).read_bytes()) for name in names}


def changed_file(folder: Path, wanted: Mapping[str, str]) -> str:
    """The first file that is not as it was; empty if all are.

    Raises:
        RunError: a file is missing, or is outside of the folder.
    """
    for name, digest in wanted.items():
        path = folder / name
        # Names come from a file that may have been edited.
        if Path(name).name != name or path.is_symlink():
            raise RunError(f"{folder}: the manifest names {name!r}, which is outside of the folder")
        if not path.is_file():
            raise RunError(f"{path}: missing")
        if _sha256(path.read_bytes()) != digest:
            return name
    return ""


def versions() -> dict[str, str]:
    """Of what made an artifact."""
    return {name: metadata.version(name) for name in PACKAGES}


def now() -> str:
    """Local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _digest(body: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(body, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
