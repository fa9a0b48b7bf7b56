"""Kit files: the names in a kit, and measured.json, in which everything that measures it writes.

This file needs numpy and nothing of this package: it is copied into kits.
"""

from __future__ import annotations

import csv
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .seal import hashes_of, read_sealed, write_sealed
from .timing import PLAN, RESULT

KIT, MEASURED = "kit.json", "measured.json"
KIT_FORMAT, MEASURED_FORMAT = "vitpareto kit", "vitpareto measured"
MODELS, BLOCKS, ANSWERS = "models", "blocks", "measured"  # folders
COLUMNS = (
    *("key", "latency_ms", "latency_p10_ms", "latency_p90_ms", "peak_memory_mb", "energy_mj"),
    *("largest_difference", "same_class", "refused"),
)


def parts_of(folder: Path, name: str) -> list[Path]:
    """Folders of the sets of a kit."""
    return sorted(path.parent for path in folder.glob(f"{name}/*/{PLAN}"))


def write_results(
    folder: Path,
    kit: dict[str, Any],
    machine: dict[str, Any],
    versions: dict[str, str],
    kernels: dict[str, dict[str, int]],
) -> None:
    """Write measured.json, sealed, and measured.csv.

    Args:
        folder: of the kit, in which the results are.
        kit: what its kit.json says.
        machine: identity of the device that was measured.
        versions: of what measured it.
        kernels: of each model, where the runtime tells them.
    """
    rows = {key: _row(folder, key, about) for key, about in kit["models"].items()}
    found = [*folder.glob(f"{MODELS}/*/{RESULT}"), *folder.glob(f"{BLOCKS}/*/{RESULT}")]
    found += folder.glob(f"{ANSWERS}/*.npy")
    own = {"python": platform.python_version(), "numpy": np.__version__}
    body = {
        "format": MEASURED_FORMAT,
        "version": 1,
        "kit": kit["digest"],
        "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "identity": machine,
        "versions": own | versions,
        "models": {key: row | {"kernels": kernels.get(key, {})} for key, row in rows.items()},
        "files": hashes_of(folder, [path.relative_to(folder).as_posix() for path in found]),
    }
    write_sealed(folder / MEASURED, body)
    with (folder / "measured.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"key": key} | row for key, row in rows.items())


def _row(folder: Path, key: str, about: dict[str, Any]) -> dict[str, Any]:
    """What was measured of one model, for people."""
    result = json.loads((folder / about["set"] / RESULT).read_text(encoding="utf-8"))
    every = [session["graphs"][about["index"]] for session in result["sessions"]]
    timed = [one for one in every if "refused" not in one]
    if not timed:
        return {"refused": every[0]["refused"]}
    best = min(timed, key=lambda one: one["p90_ms"] / one["p10_ms"])
    row: dict[str, Any] = {
        "latency_ms": best["median_ms"],
        "latency_p10_ms": best["p10_ms"],
        "latency_p90_ms": best["p90_ms"],
    }
    if about["index"] < len(result["footprints"]):
        memory_mb, energy_mj = result["footprints"][about["index"]]
        row |= {"peak_memory_mb": memory_mb} | ({"energy_mj": energy_mj} if energy_mj else {})
    path = folder / ANSWERS / f"{key}.npy"
    if path.exists():
        found = np.load(path)
        expected = np.load(folder / about["expected"])[: len(found)]
        row["largest_difference"] = float(np.abs(found - expected).max())
        row["same_class"] = float((found.argmax(1) == expected.argmax(1)).mean())
    return row


def lines(folder: Path) -> Iterator[str]:
    """What measured.json says of the models, for people."""
    yield f"{'model':16}  {'ms':>9}  {'MB':>7}  same class as expected"
    for key, row in read_sealed(folder / MEASURED, MEASURED_FORMAT)["models"].items():
        if "refused" in row:
            yield f"{key:16}  refused: {row['refused']}"
            continue
        same = f"{row['same_class']:.1%}" if "same_class" in row else "not compared"
        memory = f"{row['peak_memory_mb']:7.1f}" if "peak_memory_mb" in row else f"{'?':>7}"
        yield f"{key:16}  {row['latency_ms']:9.4f}  {memory}  {same}"
