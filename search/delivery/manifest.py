"""Manifest: everything that is claimed of an artifact, sealed with hashes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from ...cost_models import Device
from ...cost_models.tables.anchors import Pace
from ...cost_models.units.precision_recipes import Book
from ...spaces.errors import RunError, VitParetoError
from ..store.atomic_files import read_json, write_json
from .claims import (
    Accuracy,
    Check,
    Metrics,
    Promised,
    Story,
    plain,
    read_checks,
    read_part,
    read_story,
)
from .kernel_inventory import Inventory
from .preprocessing import Preprocessing

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
PACKAGES = ("vitpareto", "torch", "onnx", "onnxruntime", "numpy", "safetensors")


@dataclass(frozen=True)
class Manifest:
    """Everything that is claimed of an artifact.

    It is delivered without `metrics`, which are measured on the device, nor `test`, which is read
    once for all models of a run.

    Attributes:
        key: of its candidate.
        finalists: key of each finalist of the search that became this model -> how it did.
        made: local time.
        versions: of what made it.
        seeds: of everything random that it depends on, by name.
        device: where it is to run.
        identity: what was found of that device.
        recipes: group -> recipe by which it is stored.
        calibration_images: train images from which activation ranges are taken.
        compensated: whether norms and biases make up for what rounding shifts.
        preprocessing: of images and classes.
        promised: by the search.
        anchors: what they took when the device was calibrated.
        trained: what training reached, in torch on the validation split.
        files: name -> SHA-256.
        limits: metric -> limit of the run.
        metrics: what was measured; None where nothing was yet.
        inventory: of its operators, likewise.
        checks: of its promises.
        test: on the test split; None where that was not read yet.
        answers: of a model that was made again for another runtime, on the validation split.
    """

    key: str
    finalists: Mapping[str, Story]
    made: str
    versions: Mapping[str, str]
    seeds: Mapping[str, int]
    device: Device
    identity: Mapping[str, Any]
    recipes: Book
    calibration_images: int
    compensated: bool
    preprocessing: Preprocessing
    promised: Promised
    anchors: Pace
    trained: Accuracy
    files: Mapping[str, str]
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    metrics: Metrics | None = None
    inventory: Inventory | None = None
    checks: Sequence[Check] = ()
    test: Accuracy | None = None
    answers: Accuracy | None = None

    @property
    def verified(self) -> bool:
        """Whether it was measured and every check held."""
        return self.metrics is not None and all(check.holds for check in self.checks)

    @property
    def inside_interval(self) -> bool:
        """Whether its latency is in the promised interval; being faster breaks no promise."""
        ms = self.measured().calibrated_ms
        return self.promised.low_ms <= ms <= self.promised.high_ms

    @property
    def kernels(self) -> list[str]:
        """Names of the recipes, each once."""
        return list(dict.fromkeys(self.recipes.values()))

    def measured(self) -> Metrics:
        """What was measured.

        Raises:
            RunError: nothing was yet.
        """
        if self.metrics is None:
            raise RunError(f"{self.key}: was not measured; continue the run with --resume")
        return self.metrics

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with what follows from it for those who read the file."""
        body: dict[str, Any] = {"format_version": FORMAT_VERSION} | plain(self)
        body |= {"device": self.device.to_dict(), "verified": self.verified}
        for name in ("promised", "metrics"):
            if part := getattr(self, name):
                body[name] = plain(part)
        if self.inventory:
            body["inventory"] = self.inventory.to_dict()
        if self.metrics:
            body["inside_interval"] = self.inside_interval
        return json.loads(json.dumps(body))

    def row(self) -> dict[str, Any]:
        """The same, and the latency at the speed of the calibration among the metrics."""
        return self.to_dict() | ({"metrics": self.metrics.row()} if self.metrics else {})

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Manifest:
        """The manifest of such data.

        Raises:
            RunError: a part lacks something.
        """
        parts = {"promised": Promised, "anchors": Pace, "trained": Accuracy}
        parts |= {"metrics": Metrics, "test": Accuracy, "answers": Accuracy}
        values = dict(found)
        for name, kind in parts.items():
            if name in found:
                values[name] = read_part(kind, found[name])
        if "inventory" in found:
            values["inventory"] = Inventory.from_dict(found["inventory"])
        if isinstance(found["recipes"], list):  # of a model that 0.1 made again: of its device
            values["recipes"] = {name: name for name in found["recipes"]}
        about = {name: tuple(value) for name, value in found["preprocessing"].items()}
        return read_part(
            cls,
            values
            | {
                "finalists": {k: read_story(story) for k, story in found["finalists"].items()},
                "device": Device.from_dict(found["device"]),
                "preprocessing": read_part(Preprocessing, about),
                "checks": read_checks(found.get("checks", ())),
            },
        )


NEEDED = [f.name for f in fields(Manifest) if f.default is f.default_factory is MISSING]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with its own hash, atomically.

    Raises:
        RunError: the folder cannot be written.
    """
    body = manifest.to_dict()
    write_json(folder / MANIFEST, body | {"digest": _digest(body)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact.

    Raises:
        RunError: it is missing, damaged or edited, or of a later release.
    """
    path = folder / MANIFEST
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise RunError(f"{path}: not a manifest: needs names and values")
    found = cast("dict[str, Any]", raw)
    version = found.get("format_version")
    if not isinstance(version, int):
        raise RunError(f"{path}: not a manifest: format_version must be a number, got {version!r}")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{path}: format version {version} is newer than {FORMAT_VERSION}: it was written by "
            "a later release of vitpareto"
        )
    for name in (*NEEDED, "digest"):
        if name not in found:
            raise RunError(f"{path}: not a manifest: lacks {name!r}")
    if found["digest"] != _digest({k: v for k, v in found.items() if k != "digest"}):
        raise RunError(f"{path}: was edited: its content does not have the hash that it names")
    if found["key"] != folder.name:
        raise RunError(f"{path}: is that of {found['key']!r}, not of its folder")
    try:
        return Manifest.from_dict(found)
    except (VitParetoError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: not a manifest: {error}") from error


def manifests(pareto: Path) -> list[Manifest]:
    """The manifests of a run, the fastest model first, those without measurements last.

    What is fastest is settled at the speed of the calibration, as everywhere.

    Args:
        pareto: folder of all artifacts of a run.

    Raises:
        RunError: there are none, or one is refused by `read_manifest`.
    """
    folders = sorted(path for path in pareto.glob("[!.]*") if path.is_dir())
    found = [read_manifest(folder) for folder in folders]
    if not found:
        raise RunError(f"{pareto}: no delivered models; continue the run with --resume")
    return sorted(found, key=lambda m: m.metrics.calibrated_ms if m.metrics else float("inf"))


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
