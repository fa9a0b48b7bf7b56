"""Verify: artifacts are run where they will be used, and every promise is held against that."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor

from ...cost_models import Device
from ...cost_models.measure.bench import Bench, Graph
from ...cost_models.measure.footprint import Footprint, footprint
from ...cost_models.tables.anchors import Pace
from ...cost_models.tables.latency_table import Row
from ...spaces.errors import CostError
from ..data.dataset import Data, Split
from ..pareto.objectives import Objective
from ..store.run_folder import RunFolder
from ..training.accuracy import accuracy
from .artifact import ONNX, Artifact, load_network
from .checks import (
    Check,
    accuracy_floor,
    check_answers,
    check_energy,
    check_kernels,
    check_latency,
    check_limits,
    check_memory,
    check_size,
)
from .export import calibration, expected_logits
from .kernel_inventory import Inventory, inventory_of
from .manifest import Manifest, changed_file, manifests, write_manifest
from .shortlist import time_graphs

TWIN = "twin of "  # before the key of an artifact: its graph with random weights
MEASURED = ("latency_ms", "peak_memory_mb", "energy_mj")
LOCAL = (*MEASURED, *(f"limit of {name}" for name in MEASURED))  # checks of this device alone


def verify_new(folder: RunFolder, device: Device, data: Data) -> None:
    """Measure the artifacts of a run, and complete their manifests with all checks.

    All are timed against each other, so all are measured again if one has not been yet.

    Raises:
        RunError: nothing was delivered, or an artifact is damaged.
        CostError: the runtime refuses a graph.
    """
    found = manifests(folder.pareto)
    if all("metrics" in manifest for manifest in found):
        return
    artifacts = [Artifact.load(folder.pareto / m["key"], device) for m in found]
    rows, speeds = time_artifacts(artifacts, found, device)
    split = data.split("validation")
    for artifact, manifest in zip(artifacts, found, strict=True):
        key = manifest["key"]
        expected = _expected(artifact, manifest, data, split)
        report = examine(artifact, manifest, split, expected, rows[key], speeds[key], device)
        write_manifest(artifact.folder, manifest | report)


def time_artifacts(
    artifacts: Sequence[Artifact], found: Sequence[Manifest], device: Device
) -> tuple[dict[str, Row], dict[str, float]]:
    """Latency of artifacts by key, and the speed of the machine, where 1 is the calibration's.

    A promise that was measured was so on the candidate's graph with random weights (see
    `shortlist`), which is timed again beside the artifact: anchors are other kernels, which a busy
    host slows by more or less than these. A promise that was predicted has only them.

    Args:
        artifacts: of one run.
        found: their manifests.
        device: where they are run.

    Raises:
        CostError: the runtime refuses one.
    """
    bench, graphs = Bench(device), list[Graph]()
    for a, manifest in zip(artifacts, found, strict=True):
        graphs.append(graph_of(a))
        if _was_measured(manifest):
            twin = bench.network(a.candidate, manifest["recipes"])
            graphs.append(replace(twin, key=TWIN + a.candidate.key))
    rows, speeds = time_graphs(bench, graphs), dict[str, float]()
    for artifact, manifest in zip(artifacts, found, strict=True):
        key = artifact.candidate.key
        if key not in rows:
            raise CostError(f"{artifact.folder / artifact.file}: {device.runtime} cannot time it")
        if twin := rows.get(TWIN + key):
            speeds[key] = manifest["promised"]["latency_ms"] / twin.median_ms
        else:
            speeds[key] = rows[key].speed(Pace(**manifest["anchors"]))
    return rows, speeds


def graph_of(artifact: Artifact) -> Graph:
    """An artifact as a graph that can be timed."""
    content = artifact.content
    nodes = len(onnx.load_model_from_string(content).graph.node) if artifact.file == ONNX else 0
    return Graph(
        "artifact", artifact.candidate.key, content, artifact.input_shape, 1, len(content), nodes
    )


def _was_measured(manifest: Manifest) -> bool:
    """Whether a promise of latency is more than a prediction."""
    promised = manifest["promised"]
    return promised["latency_ms"] != promised["predicted_ms"]


def examine(
    artifact: Artifact,
    manifest: Manifest,
    split: Split,
    expected: Tensor,
    row: Row,
    speed: float,
    device: Device,
) -> dict[str, Any]:
    """Run every check on one artifact.

    Args:
        artifact: the model.
        manifest: its promises and limits.
        split: images of the validation split.
        expected: logits from torch on them (N, K).
        row: measured latency.
        speed: of the machine then, where 1 is that of the calibration.
        device: on which it is measured.

    Returns:
        "metrics" as measured, "inside_interval", "inventory", "checks", and "verified" if all
        checks hold.
    """
    promised, logits = manifest["promised"], artifact.logits(split)
    taken = footprint_of(artifact.content, device, artifact.file)
    is_onnx = artifact.file == ONNX
    inventory = (
        inventory_of(artifact.content, artifact.kernels, device.runtime)
        if is_onnx
        else Inventory({}, dict(artifact.kernels), [], {})
    )
    metrics = accuracy(logits, split.labels) | {
        "latency_ms": row.median_ms,
        "latency_p10_ms": row.p10_ms,
        "latency_p90_ms": row.p90_ms,
        "drift": row.drift,
        "speed": speed,
        "peak_memory_mb": taken.growth_mb,
        "size_mb": artifact.size_mb,
    }
    metrics |= {"energy_mj": taken.energy_mj} if taken.energy_mj else {}
    low = accuracy_floor(promised, manifest["trained"], len(split.labels))
    limits = [Objective(name, limit) for name, limit in manifest["limits"].items()]
    checks = [
        *check_answers(artifact.exact, logits, expected, split.labels, low),
        check_latency(row.median_ms, promised["high_ms"], speed),
        check_kernels(inventory),
        *check_limits(metrics, limits),
        *(
            Check(f"limit of {o.name}", False, "not measured", f"<= {o.limit:g}")
            for o in limits
            if o.name in MEASURED and o.name not in metrics
        ),
    ]
    if "energy_mj" in metrics and "energy_high_mj" in promised:
        checks.append(check_energy(metrics["energy_mj"], promised["energy_high_mj"]))
    if is_onnx:  # of which predictions of bytes are; torch's files are larger
        checks += [
            check_size(artifact.size_mb, promised["size_mb"]),
            check_memory(metrics["peak_memory_mb"], promised["peak_memory_mb"]),
        ]
    return {
        "metrics": metrics,
        # A fact beside the check: being faster than predicted breaks no promise.
        "inside_interval": promised["low_ms"] <= row.median_ms * speed <= promised["high_ms"],
        "inventory": inventory.to_dict(),
        "checks": [asdict(check) for check in checks],
        "verified": all(check.holds for check in checks),
    }


def footprint_of(content: bytes, device: Device, name: str = ONNX) -> Footprint:
    """Memory and energy of a model file of that name, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return footprint(device, str(path))


def test_once(folder: RunFolder, device: Device, data: Data) -> list[Manifest]:
    """Measure test accuracy of every delivered artifact, all from one reading of the test split.

    A run that was killed between reading and writing reads again; the seal records it.

    Returns:
        The manifests, the fastest model first.
    """
    found = manifests(folder.pareto)
    if any("test" not in manifest for manifest in found):
        split = data.split("test", force=folder.test_seal.exists())
        for manifest in found:
            path = folder.pareto / manifest["key"]
            manifest["test"] = accuracy(Artifact.load(path, device).logits(split), split.labels)
            write_manifest(path, manifest)
    return manifests(folder.pareto)


def verify_again(folder: RunFolder, device: Device, data: Data) -> list[dict[str, Any]]:
    """Hold delivered artifacts against their manifests; nothing is written.

    An artifact whose files have changed is not loaded. Latency and memory are only compared on
    the device that the manifest names.

    Returns:
        For each its "key", "checks", and "verified".

    Raises:
        RunError: there is no artifact, or one lacks a file or was edited.
        MissingRuntimeError: the device's runtime is not installed here.
    """
    split = data.split("validation")
    found = manifests(folder.pareto)
    files = {m["key"]: changed_file(folder.pareto / m["key"], m["files"]) for m in found}
    intact = [m for m in found if not files[m["key"]]]
    artifacts = {m["key"]: Artifact.load(folder.pareto / m["key"], device) for m in intact}
    rows, speeds = time_artifacts([*artifacts.values()], intact, device) if artifacts else ({}, {})
    reports: list[dict[str, Any]] = []
    for manifest in found:
        key = manifest["key"]
        checks = [asdict(Check("files", not files[key], files[key] or "unchanged", "unchanged"))]
        report: dict[str, Any] = {"key": key, "checks": checks}
        if artifact := artifacts.get(key):
            expected = _expected(artifact, manifest, data, split)
            seen = examine(artifact, manifest, split, expected, rows[key], speeds[key], device)
            here = device.identity() == manifest["identity"]
            checks += [c for c in seen["checks"] if here or c["name"] not in LOCAL]
            report |= {name: seen[name] for name in ("metrics", "inside_interval")}
        report["verified"] = all(check["holds"] for check in checks)
        reports.append(report)
    return reports


def _expected(artifact: Artifact, manifest: Mapping[str, Any], data: Data, split: Split) -> Tensor:
    candidate, recipes = artifact.candidate, manifest["recipes"]
    images = calibration(data, candidate, manifest["calibration_images"], recipes)
    network = load_network(artifact.folder)
    compensate = manifest["compensated"]
    return expected_logits(candidate, network, split, recipes, images, compensate)
