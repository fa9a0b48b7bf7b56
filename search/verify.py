"""Verify: an artifact is run where it will be used, and every promise is held against it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ..cost_models import Device
from ..cost_models.measure import Timing, measure
from ..cost_models.runtimes import Compiled, open_runtime
from ..spaces import Candidate
from ..spaces.errors import RunError
from ..spaces.networks import Network
from .compress import run
from .data import Data, Split, resized
from .evaluate import Evaluation, accuracy
from .export import CANDIDATE, MANIFEST, ONNX, WEIGHTS, Preprocessing
from .files import read_json, write_json
from .store import RunFolder

FORMAT_VERSION = 1
LATENCY = "latency_ms"

LOGITS = 1e-4  # largest difference of a float artifact from torch
AGREEMENT = 0.98  # share of images on which a quantised artifact says the same as torch
SIZE = 0.02  # relative difference of the file from its predicted size ...
METADATA_MB = 0.002  # ... beside labels and normalisation, which no prediction counts


@dataclass(frozen=True, slots=True)
class Check:
    """One promise and what became of it.

    Attributes:
        name: of the check.
        holds: whether it was kept.
        found: the measured value.
        wanted: what it had to be.
    """

    name: str
    holds: bool
    found: float | str
    wanted: str


@dataclass(frozen=True)
class Artifact:
    """A delivered model, loaded in its runtime.

    Attributes:
        folder: with `candidate.json`, `model.safetensors` and `model.onnx`.
        candidate: what it is.
        compiled: ready to run.
        batch: images of one run.
    """

    folder: Path
    candidate: Candidate
    compiled: Compiled
    batch: int

    @classmethod
    def load(cls, folder: Path, device: Device) -> Artifact:
        """Load an artifact for a device.

        Raises:
            RunError: a file is missing.
            CostError: the runtime refuses the graph.
        """
        for name in (CANDIDATE, WEIGHTS, ONNX):
            if not (folder / name).is_file():
                raise RunError(f"{folder / name}: missing")
        candidate = Candidate.from_json((folder / CANDIDATE).read_text())
        compiled = open_runtime(device).compile((folder / ONNX).read_bytes())
        return cls(folder, candidate, compiled, device.batch)

    def logits(self, split: Split) -> torch.Tensor:
        """Logits from the runtime, batch by batch as it will be used: (N, K)."""
        images = resized(split.images, self.candidate.architecture.input_size).numpy()
        missing = -len(images) % self.batch
        padded = np.concatenate([images, images[:missing]])
        runs = [self.compiled.run(x) for x in np.split(padded, len(padded) // self.batch)]
        return torch.from_numpy(np.concatenate(runs)[: len(images)])

    def reference(self, split: Split) -> torch.Tensor:
        """Logits from torch with the same weights, compression simulated: (N, K)."""
        network = Network(self.candidate.architecture).eval()
        network.load_state_dict(load_file(self.folder / WEIGHTS))
        images = resized(split.images, self.candidate.architecture.input_size)
        with torch.inference_mode():
            return run(network, network.state_dict(), self.candidate, images)

    def example(self) -> np.ndarray:
        """An input for timing."""
        a = self.candidate.architecture
        shape = (self.batch, a.in_chans, a.input_size, a.input_size)
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    @property
    def size_mb(self) -> float:
        """Size of the ONNX file in megabytes of 10^6 bytes."""
        return (self.folder / ONNX).stat().st_size / 1e6


def time_artifacts(artifacts: Sequence[Artifact]) -> list[Timing]:
    """Latency of all artifacts, measured in turn against each other."""
    return measure([a.compiled for a in artifacts], [a.example() for a in artifacts])


def check(
    artifact: Artifact, split: Split, promised: dict[str, float], timing: Timing
) -> dict[str, Any]:
    """Run every check on one artifact.

    Args:
        artifact: the model.
        split: images of the validation split.
        promised: metrics of the search: accuracy with interval, predicted costs.
        timing: measured latency.

    Returns:
        "metrics" as measured, "checks", and "verified" if all of them hold.
    """
    logits, reference = artifact.logits(split), artifact.reference(split)
    metrics = accuracy(logits, split.labels) | {
        "latency_ms": timing.median_ms,
        "latency_p10_ms": timing.p10_ms,
        "latency_p90_ms": timing.p90_ms,
        "size_mb": artifact.size_mb,
    }
    checks = [
        check_logits(artifact.candidate, logits, reference),
        check_accuracy(metrics["accuracy"], promised["accuracy_low"]),
        check_latency(timing.median_ms, promised["low_ms"], promised["high_ms"]),
        check_size(artifact.size_mb, promised["size_mb"]),
    ]
    return {
        "metrics": metrics,
        "kernels": artifact.compiled.kernels(),
        "checks": [asdict(c) for c in checks],
        "verified": all(c.holds for c in checks),
    }


def check_logits(candidate: Candidate, logits: torch.Tensor, reference: torch.Tensor) -> Check:
    """Float artifacts give torch's logits, quantised ones torch's answers."""
    if is_quantised(candidate):
        agreement = (logits.argmax(1) == reference.argmax(1)).double().mean().item()
        return Check("agreement with torch", agreement >= AGREEMENT, agreement, f">= {AGREEMENT}")
    distance = (logits - reference).abs().max().item()
    return Check("logits against torch", distance <= LOGITS, distance, f"<= {LOGITS}")


def check_accuracy(found: float, low: float) -> Check:
    """The artifact is no worse than the interval that the search saw."""
    return Check("accuracy of the artifact", found >= low, found, f">= {low:.4f}")


def check_latency(found: float, low: float, high: float) -> Check:
    """The measured latency lies in the predicted interval."""
    return Check(LATENCY, low <= found <= high, found, f"{low:.4f} to {high:.4f}")


def check_size(found: float, predicted: float) -> Check:
    """The file is as large as predicted."""
    low, high = predicted * (1 - SIZE), predicted * (1 + SIZE) + METADATA_MB
    return Check("size_mb", low <= found <= high, found, f"{low:.4f} to {high:.4f}")


def is_quantised(candidate: Candidate) -> bool:
    """Whether any weight has fewer than 32 bits."""
    c = candidate.compression
    policies = [p for s in c.stages for p in (*s.mixer, *s.mlp, s.downsample)]
    return any(p.weight_bits < 32 for p in (*policies, c.stem, c.head))


def sha256(path: Path) -> str:
    """Hash of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify_new(
    folder: RunFolder, finalists: Sequence[Evaluation], device: Device, data: Data
) -> None:
    """Check the artifacts of a run against what the search promised, and write their manifests.

    All are timed together, so all are checked again if one has no manifest yet.

    Raises:
        RunError: an artifact lacks a file.
        CostError: the runtime refuses a graph.
    """
    folders = [folder.pareto / evaluation.key for evaluation in finalists]
    if all((f / MANIFEST).exists() for f in folders):
        return
    artifacts = [Artifact.load(f, device) for f in folders]
    timings = time_artifacts(artifacts)
    split = data.split("validation")
    for artifact, evaluation, timing in zip(artifacts, finalists, timings, strict=True):
        manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "key": evaluation.key,
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "device": device.to_dict(),
            "identity": device.identity(),
            "files": {n: sha256(artifact.folder / n) for n in (CANDIDATE, WEIGHTS, ONNX)},
            "preprocessing": asdict(Preprocessing.of(data)),
            "promised": dict(evaluation.metrics),
        }
        manifest |= check(artifact, split, manifest["promised"], timing)
        write_json(artifact.folder / MANIFEST, manifest)


def test_once(folder: RunFolder, device: Device, data: Data) -> list[dict[str, Any]]:
    """Measure test accuracy of every delivered artifact, all from one reading of the test split.

    A run that was killed between reading and writing reads again; the seal records it.

    Returns:
        The manifests, the fastest model first.
    """
    found = manifests(folder)
    if any("test" not in manifest for manifest in found):
        split = data.split("test", force=folder.test_seal.exists())
        for manifest in found:
            path = folder.pareto / manifest["key"]
            logits = Artifact.load(path, device).logits(split)
            manifest["test"] = accuracy(logits, split.labels)
            write_json(path / MANIFEST, manifest)
    return found


def verify_again(folder: RunFolder, device: Device, data: Data) -> list[dict[str, Any]]:
    """Hold delivered artifacts against their manifests; nothing is written.

    An artifact whose files have changed is not loaded. Latency is only compared on the device
    that the manifest names.

    Returns:
        For each its "key", "checks", and "verified".

    Raises:
        RunError: no artifact, or one lacks a file.
    """
    reports: list[dict[str, Any]] = []
    split = data.split("validation")
    for manifest in manifests(folder):
        path = folder.pareto / manifest["key"]
        unchanged = check_files(path, manifest["files"])
        report: dict[str, Any] = {"key": manifest["key"], "checks": [asdict(unchanged)]}
        if unchanged.holds:
            artifact = Artifact.load(path, device)
            found = check(artifact, split, manifest["promised"], time_artifacts([artifact])[0])
            here = device.identity() == manifest["identity"]
            report["checks"] += [c for c in found["checks"] if here or c["name"] != LATENCY]
            report["metrics"] = found["metrics"]
        report["verified"] = all(c["holds"] for c in report["checks"])
        reports.append(report)
    return reports


def manifests(folder: RunFolder) -> list[dict[str, Any]]:
    """The manifests of a run, the fastest model first.

    Raises:
        RunError: there are none, or one is of a newer release.
    """
    found = [read_json(path) for path in folder.pareto.glob(f"*/{MANIFEST}")]
    if not found:
        raise RunError(f"{folder.pareto}: no delivered models; continue the run with --resume")
    for manifest in found:
        if manifest["format_version"] > FORMAT_VERSION:
            raise RunError(
                f"{folder.pareto / manifest['key'] / MANIFEST}: format version "
                f"{manifest['format_version']!r} is newer than {FORMAT_VERSION}: it was written "
                "by a later release of vitpareto"
            )
    return sorted(found, key=lambda m: m["metrics"]["latency_ms"])


def check_files(folder: Path, hashes: Mapping[str, str]) -> Check:
    """No file has changed since it was verified."""
    for name, wanted in hashes.items():
        # Names come from a file that may have been edited: they must stay in the folder.
        if Path(name).name != name or not (folder / name).is_file():
            raise RunError(f"{folder / name}: missing")
        if sha256(folder / name) != wanted:
            return Check("files", False, name, "unchanged")
    return Check("files", True, "unchanged", "unchanged")
