"""Manifest: all claims about an artifact, sealed with hashes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from ...cost_models import Device
from ...cost_models.runtime_spec import find_runtime
from ...cost_models.standalone.seal import digest
from ...cost_models.tables.anchors import Pace
from ...cost_models.units.precision_recipes import Book
from ...spaces.errors import RunError, VitParetoError
from ..pareto.objectives import MAXIMIZED, spelled
from ..store.atomic_files import read_json, write_json
from ..store.run_folder import RunPaths
from .changed_files import changed_file
from .checks import ANSWERED, FILES, LOCAL
from .claims import (
    Accuracy,
    Check,
    Exits,
    Form,
    Metrics,
    Promised,
    Story,
    Trial,
    plain,
    read_checks,
    read_part,
    read_story,
)
from .confusion import ClassResult, read_classes
from .kernel_inventory import Inventory
from .preprocessing import Preprocessing

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
SEARCHED = "searched "  # before the key of a delivered model among others that are not
PACKAGES = ("vitpareto", "torch", "onnx", "onnxruntime", "numpy", "safetensors")


@dataclass(frozen=True)
class Manifest:
    """All claims about an artifact.

    `metrics` are added when they are measured on the device, `test` when the test split is read,
    once for all models of a run.

    Attributes:
        key: of its candidate.
        finalists: key of each finalist of the search that became this model -> how it did.
        made: local time.
        versions: of the packages that made it.
        seeds: of everything random that it depends on, by name.
        device: that is to run it.
        identity: of that device when it was calibrated, which need not be this machine.
        recipes: group -> recipe by which it is stored.
        calibration_images: train images from which activation ranges are taken.
        compensated: whether norms and biases are corrected for rounding.
        preprocessing: of images and classes.
        promised: by the search.
        anchors: latencies of the anchor kernels when the device was calibrated.
        trained: accuracy after training, in torch on the validation split.
        files: name -> SHA-256.
        limits: metric -> limit of the run.
        goal: name of the accuracy that the run maximizes.
        ladder: name in the ladder of a model that was trained for it; None if a search found it.
        metrics: measurements; None before they are made.
        inventory: of its operators, likewise.
        checks: of its promises.
        test: accuracy on the test split; None before that is read.
        answers: validation accuracy of a model that is not measured on its device: it was made
            again for another runtime, or the device is another machine.
        made_from: runtime and device of the model from which it was made again.
        kit: hash of the kit that brought its measurements from another machine; None where they
            were made on the machine of the run.
        classes: what the artifact answers on the validation split, by class; None before it is
            measured, and where 0.2 made it.
        test_classes: likewise on the test split.
        ways: how it was trained, "ptq", "qat" or "direct", and how right each was on the validation
            split; empty where it was trained in one way alone.
        distill_token: how right it was with its distillation token "fused" and "dropped", in torch
            on the validation split before any further training; empty where it had none.
        elsewhere: other device of the run -> what its cost model predicts of this candidate there,
            where it has a manifest of its own; None in a run for one device.
        exits: how images leave it early; None where they do not.
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
    goal: str = MAXIMIZED[0]
    ladder: str | None = None
    metrics: Metrics | None = None
    inventory: Inventory | None = None
    checks: Sequence[Check] = ()
    test: Accuracy | None = None
    answers: Accuracy | None = None
    made_from: str | None = None
    kit: str | None = None
    classes: Sequence[ClassResult] | None = None
    test_classes: Sequence[ClassResult] | None = None
    ways: Mapping[str, Trial] = field(default_factory=dict[str, Trial])
    distill_token: Mapping[str, Form] = field(default_factory=dict[str, Form])
    elsewhere: Mapping[str, Mapping[str, float]] | None = None
    exits: Exits | None = None

    @property
    def verified(self) -> bool:
        """Whether it was measured and every check held."""
        return self.metrics is not None and all(check.holds for check in self.checks)

    @property
    def broken(self) -> bool:
        """Whether a check did not hold, or nothing was checked."""
        return not (self.verified or (self.is_predicted and all(c.holds for c in self.checks)))

    @property
    def is_predicted(self) -> bool:
        """Whether its device is another machine, on which it was not measured yet."""
        return self.metrics is None and self.answers is not None and self.made_from is None

    @property
    def figures(self) -> Metrics:
        """Measurements; of a predicted model its promises, and how right it answers here.

        Raises:
            RunError: there are none yet.
        """
        if not self.is_predicted:
            return self.measured()
        p = self.promised
        shares = plain(self.answers) if self.answers else {}
        ends = {"latency_p10_ms": p.low_ms, "latency_p90_ms": p.high_ms}
        return read_part(Metrics, plain(p) | shares | ends | {"drift": 0.0, "speed": 1.0})

    @property
    def as_forecast(self) -> bool:
        """Whether it is a candidate as the search forecast it, with nothing taken back."""
        return self.ladder is None and self.key in self.finalists

    @property
    def where(self) -> str:
        """Runtime and device for which it was made, in words."""
        return f"{self.device.runtime} on {self.device.name}"

    @property
    def machine(self) -> str:
        """Device and its GPU or processor, in words."""
        chips = (self.identity.get(name) for name in ("gpu", "processor"))
        return f"{self.device.name} ({next(filter(None, chips), 'unknown processor')})"

    @property
    def state(self) -> str:
        """Whether it is verified, in a word or two, and on which other machine."""
        if self.is_predicted:
            return f"predicted for {self.device.name}, not verified on it"
        word = "verified" if self.verified else "not verified"
        return f"{word} on {self.machine}" if self.kit else word

    @property
    def status(self) -> str:
        """What was measured of it and what was not, in words."""
        right = f"{spelled(self.goal)} on the validation images"
        if self.metrics is not None:
            share, ms = self.metrics.interval(self.goal)[1], self.metrics.calibrated_ms
            mean = " on average over them" if self.exits else ""
            figures = f"{share:.1%} {right} and {ms:.3f} ms{mean}, measured in {self.where}"
            answered = next((c.found for c in self.checks if c.name == ANSWERED), "")
            if len({*str(answered).split(" of ")}) > 1:  # a kit holds few of many images
                figures += f", where {answered} images were answered; the others as torch answers"
            failed = next((check for check in self.checks if not check.holds), None)
            return f"{self.state}: {failed}; {figures}" if failed else f"{self.state}: {figures}"
        if self.is_predicted:
            share, p = self.figures.interval(self.goal)[1], self.promised
            failed = next((check for check in self.checks if not check.holds), None)
            return (
                f"{self.state}: {f'{failed}; ' if failed else ''}{share:.1%} {right} as it answers "
                f"here, {p.latency_ms:.3f} ms predicted ({p.low_ms:.3f} to {p.high_ms:.3f})"
            )
        if self.answers is not None:
            share = self.answers.interval(self.goal)[1]
            stand_in = find_runtime(self.device.runtime).stand_in
            how = f"by {stand_in}, not run in" if stand_in else "measured in"
            return (
                f"not verified: {share:.1%} {right}, {how} {self.where}; latency and memory "
                f"were not: those of its run were measured in {self.made_from or 'another runtime'}"
            )
        return "not verified: nothing was measured yet"

    @property
    def inside_interval(self) -> bool:
        """Whether its latency is in the promised interval; a faster model breaks no promise."""
        ms = self.measured().calibrated_ms
        return self.promised.low_ms <= ms <= self.promised.high_ms

    @property
    def kernels(self) -> list[str]:
        """Names of the recipes, each once."""
        return list(dict.fromkeys(self.recipes.values()))

    def measured(self) -> Metrics:
        """Measurements.

        Raises:
            RunError: there are none yet.
        """
        if self.metrics is None:
            raise RunError(f"{self.key}: was not measured; continue the run with --resume")
        return self.metrics

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with derived values for readers of the file."""
        body: dict[str, Any] = {"format_version": FORMAT_VERSION} | plain(self)
        body |= {"device": self.device.to_dict()}
        body |= {"verified": self.verified, "status": self.status}
        body["preprocessing"] = self.preprocessing.to_dict()
        if self.goal == MAXIMIZED[0]:  # as 0.2 wrote it, when there was no other
            del body["goal"]
        for story in body["finalists"].values():  # as 0.2 wrote it, which noted none
            if not story["effects"]:
                del story["effects"]
        for name in ("ways", "distill_token"):  # where there was something to choose
            body[name] = {key: plain(part) for key, part in getattr(self, name).items()}
            if not body[name]:
                del body[name]
        for name in ("promised", "trained", "metrics", "test", "answers", "exits"):
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
    def from_dict(cls, data: Mapping[str, Any]) -> Manifest:
        """Inverse of `to_dict`.

        Raises:
            RunError: a part lacks a value.
        """
        parts = {"promised": Promised, "anchors": Pace, "trained": Accuracy}
        parts |= {"metrics": Metrics, "test": Accuracy, "answers": Accuracy, "exits": Exits}
        values = dict(data)
        for name, kind in parts.items():
            if name in data:
                values[name] = read_part(kind, data[name])
        for name, kind in {"ways": Trial, "distill_token": Form}.items():
            values[name] = {key: read_part(kind, part) for key, part in data.get(name, {}).items()}
        for name in ("classes", "test_classes"):
            if name in data:
                values[name] = read_classes(data[name])
        if "inventory" in data:
            values["inventory"] = Inventory.from_dict(data["inventory"])
        if isinstance(data["recipes"], list):  # as 0.1 wrote them for a model made again
            values["recipes"] = {name: name for name in data["recipes"]}
        return read_part(
            cls,
            values
            | {
                "finalists": {k: read_story(story) for k, story in data["finalists"].items()},
                "device": Device.from_dict(data["device"]),
                "preprocessing": Preprocessing.from_dict(data["preprocessing"]),
                "checks": read_checks(data.get("checks", ())),
            },
        )


NEEDED = [f.name for f in fields(Manifest) if f.default is f.default_factory is MISSING]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with its own hash, atomically.

    Raises:
        RunError: the folder cannot be written.
    """
    body = manifest.to_dict()
    write_json(folder / MANIFEST, body | {"digest": digest(body)})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an artifact.

    Raises:
        RunError: it is missing, damaged or edited, or of a later release.
    """
    path = folder / MANIFEST
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise RunError(f"{path}: not a manifest: needs names and values")
    data = cast("dict[str, Any]", raw)
    version = data.get("format_version")
    if not isinstance(version, int):
        raise RunError(f"{path}: not a manifest: format_version must be a number, got {version!r}")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{path}: format version {version} is newer than {FORMAT_VERSION}: it was written by "
            "a later release of vitpareto"
        )
    for name in (*NEEDED, "digest"):
        if name not in data:
            raise RunError(f"{path}: not a manifest: lacks {name!r}")
    if data["digest"] != digest(data):
        raise RunError(f"{path}: was edited: its content does not have the hash that it names")
    if data["key"] != folder.name:
        raise RunError(f"{path}: is that of {data['key']!r}, not of its folder")
    try:
        return Manifest.from_dict(data)
    except (VitParetoError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: not a manifest: {error}") from error


def manifests(pareto: Path) -> list[Manifest]:
    """Read the manifests of a run, the fastest model first, those without measurements last.

    Latencies are compared at the speed of the calibration, as everywhere. One whose files have
    changed since has a check that says so, and is not verified.

    Args:
        pareto: folder of all artifacts of a run.

    Raises:
        RunError: there are none, or one is refused by `read_manifest`.
    """
    listed = manifests_so_far(pareto)
    if not listed:
        raise RunError(f"{pareto}: no delivered models; continue the run with --resume")
    return [_as_it_lies(pareto / manifest.key, manifest) for manifest in listed]


def manifests_so_far(pareto: Path) -> list[Manifest]:
    """Likewise of a run that may have delivered none yet, without a look at its files.

    Raises:
        RunError: one is refused by `read_manifest`.
    """
    listed = read_manifests(pareto)
    known = {m.key: m.figures.calibrated_ms for m in listed if m.metrics or m.is_predicted}
    return sorted(listed, key=lambda m: known.get(m.key, float("inf")))


def read_manifests(pareto: Path) -> list[Manifest]:
    """Read the manifests of all artifacts so far, by key.

    Raises:
        RunError: one is refused by `read_manifest`.
    """
    folders = sorted(path for path in pareto.glob("[!.]*") if path.is_dir())
    kept = RunPaths(pareto.parent).cost_model
    calibrated = read_json(kept).get("device") if folders and kept.is_file() else None
    return [_as_promised(read_manifest(folder), calibrated) for folder in folders]


def _as_it_lies(folder: Path, manifest: Manifest) -> Manifest:
    """A manifest with what its files say that lie beside it."""
    checks = tuple(check for check in manifest.checks if check.name != FILES)
    try:
        changed = changed_file(folder, manifest.files)
    except RunError as error:  # one is missing
        changed = str(error)
    if changed:
        checks += (Check(FILES, False, changed, "unchanged"),)
    return replace(manifest, checks=checks)


def _as_promised(manifest: Manifest, calibrated: Mapping[str, Any] | None) -> Manifest:
    """A manifest without measurements of a machine that nothing was promised for.

    Until 0.2 models for another device were measured on the machine of the run.

    Args:
        manifest: of a run.
        calibrated: identity of the device of its cost model.
    """
    if not calibrated or manifest.identity == calibrated or manifest.made_from:
        return manifest
    known = manifest.metrics
    return replace(
        manifest,
        identity=calibrated,
        answers=read_part(Accuracy, plain(known)) if known else manifest.answers,
        metrics=None,
        inventory=None,
        checks=[check for check in manifest.checks if check.name not in LOCAL],
    )


def versions() -> dict[str, str]:
    """Versions of the packages that make an artifact."""
    return {name: metadata.version(name) for name in PACKAGES}


def now() -> str:
    """Local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
