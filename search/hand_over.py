"""Hand over: artifacts of a run, or of candidates with random weights, in a folder of choice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cost_models import Device
from ..cost_models.device import presets
from ..cost_models.runtimes import open_runtime
from ..spaces import Candidate
from ..spaces.errors import ConfigError, RunError, UnknownNameError, did_you_mean
from .export import ONNX, export_random
from .files import read_json, sync_folder
from .store import RunFolder
from .verify import check_files, manifests

PICKS = ("knee", "fastest", "best")


def export_picked(run: Path, pick: str, out: Path) -> Path:
    """Copy one delivered model of a run.

    Returns:
        Path of its ONNX file.

    Raises:
        UnknownNameError: no such model.
        RunError: nothing was delivered, or a file has changed since.
    """
    folder = RunFolder(run, lock=False)
    found = manifests(folder)
    chosen = choose(found, pick)
    source, target = folder.pareto / chosen["key"], out / chosen["key"]
    if not check_files(source, chosen["files"]).holds:
        raise RunError(f"{source}: a file has changed since it was verified")
    if target.exists():
        raise RunError(f"{target}: exists already, nothing was written")
    unfinished = target.with_name(f".{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished)
    unfinished.rename(target)
    sync_folder(out)
    return target / ONNX


def choose(found: Sequence[dict[str, Any]], pick: str) -> dict[str, Any]:
    """One of several manifests.

    Args:
        found: manifests.
        pick: a key; "fastest"; "best" for the most accurate; or "knee", the one that is farthest
            above the line from the fastest to the best.

    Raises:
        UnknownNameError: no such model.
    """
    keys = {m["key"]: m for m in found}
    if pick in keys:
        return keys[pick]
    fastest = min(found, key=lambda m: m["metrics"]["latency_ms"])
    best = max(found, key=lambda m: (m["metrics"]["accuracy"], -m["metrics"]["latency_ms"]))
    if pick == "fastest":
        return fastest
    if pick == "best":
        return best
    if pick != "knee":
        raise UnknownNameError("model", pick, [*PICKS, *keys])
    (x0, y0), (x1, y1) = (
        (m["metrics"]["latency_ms"], m["metrics"]["accuracy"]) for m in (fastest, best)
    )

    def above(manifest: dict[str, Any]) -> float:
        x = (manifest["metrics"]["latency_ms"] - x0) / ((x1 - x0) or 1.0)
        return (manifest["metrics"]["accuracy"] - y0) / ((y1 - y0) or 1.0) - x

    return max(found, key=above)


def export_candidates(source: Path, random_weights: bool, runtime: str, out: Path) -> list[Path]:
    """ONNX files of candidates with random weights, each in its own precision.

    Args:
        source: JSON with one candidate or a list of them.
        random_weights: must be true; a candidate alone has no trained weights.
        runtime: whose recipes settle how a precision is stored.
        out: gets a folder for each.

    Raises:
        ConfigError: a file without candidates, or no runtime of that name.
        CostError: a precision that the runtime cannot run.
    """
    if not random_weights:
        raise ConfigError(
            f"{source}: a candidate has no weights: give a run folder, or --random-weights"
        )
    device = device_of(runtime)
    open_runtime(device)
    raw = read_json(source)
    paths: list[Path] = []
    for data in raw if isinstance(raw, list) else [raw]:
        candidate = Candidate.from_dict(data)
        export_random(out / candidate.key, candidate, device)
        paths.append(out / candidate.key / ONNX)
    return paths


def device_of(runtime: str) -> Device:
    """The first preset device with a runtime.

    Raises:
        ConfigError: there is none.
    """
    devices = {d.runtime: d for d in map(Device.load, reversed(presets()))}
    if runtime not in devices:
        raise ConfigError(
            f"--runtime: no such runtime {runtime!r}. {did_you_mean(runtime, devices)}"
        )
    return devices[runtime]
