"""Kit runner: measures the models of a run, and sub-blocks, on the machine that they are for.

This file is run.py of a kit. It needs numpy and the runtime, and nothing of this package. Every set
of graphs is timed in a process of its own; finished ones are kept, so that it can be stopped and
started again.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from .onnxruntime_graph import PACKAGE, Graph, version
    from .runner import PLAN, REFUSALS, RESULT, identity
    from .seal import SealError, check_files, hashes_of, read_sealed, write_sealed
else:  # copied into a kit, beside the others
    from graph import PACKAGE, Graph, version  # type: ignore[no-redef]
    from runner import PLAN, REFUSALS, RESULT, identity  # type: ignore[no-redef]
    from seal import (  # type: ignore[no-redef]
        SealError,
        check_files,
        hashes_of,
        read_sealed,
        write_sealed,
    )

KIT, MEASURED = "kit.json", "measured.json"
KIT_FORMAT, MEASURED_FORMAT = "vitpareto kit", "vitpareto measured"
MODELS, BLOCKS, ANSWERS = "models", "blocks", "measured"  # folders
COLUMNS = (
    *("key", "latency_ms", "latency_p10_ms", "latency_p90_ms", "peak_memory_mb", "energy_mj"),
    *("largest_difference", "same_class", "refused"),
)


def measure(folder: Path, kit: dict[str, Any], blocks: bool) -> None:
    """Measure a kit in its folder; its results are written after the models and at the end.

    Args:
        folder: of the kit.
        kit: what its kit.json says.
        blocks: whether to measure the sub-blocks, too.
    """
    for part in parts_of(folder, MODELS):
        _measured_set(part)
    kernels = {key: answer(folder, key, about, kit) for key, about in kit["models"].items()}
    write_results(folder, kit, identity(kit["device"]), {PACKAGE: version()}, kernels)
    if blocks:
        sets = parts_of(folder, BLOCKS)
        for done, part in enumerate(sets, 1):
            _measured_set(part)
            _say(f"{done} of {len(sets)} sets of sub-blocks")
        write_results(folder, kit, identity(kit["device"]), {PACKAGE: version()}, kernels)


def parts_of(folder: Path, name: str) -> list[Path]:
    """Folders of the sets of a kit."""
    return sorted(path.parent for path in folder.glob(f"{name}/*/{PLAN}"))


def _measured_set(part: Path) -> None:
    """Measure a set in a fresh process, if it was not yet."""
    if not (part / RESULT).exists():
        script = Path(__file__).with_name("runner.py")
        subprocess.run([sys.executable, str(script), str(part)], check=True)


def answer(folder: Path, key: str, about: dict[str, Any], kit: dict[str, Any]) -> dict[str, int]:
    """Write a model's answers to the images of the kit; the kernels that it executes."""
    images, batch = np.load(folder / about["input"]), kit["device"]["batch"]
    missing = -len(images) % batch
    padded = np.concatenate([images, images[:missing]])
    try:
        graph = Graph(str(folder / about["file"]), kit["device"])
        runs = [graph.run(x) for x in np.split(padded, len(padded) // batch)]
        kernels = graph.kernels()
    except REFUSALS:
        return {}  # the timing says why it is refused
    (folder / ANSWERS).mkdir(exist_ok=True)
    np.save(folder / ANSWERS / f"{key}.npy", np.concatenate(runs)[: len(images)])
    return kernels


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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a script


def main() -> None:
    """Run in the folder of a kit."""
    parser = argparse.ArgumentParser(
        description="Measures the models of this kit, checks their answers, and measures "
        "sub-blocks. Stopped, the same command goes on. Results: measured.json, measured.csv."
    )
    parser.add_argument("--models", action="store_true", help="the models alone, a minute or less")
    asked = parser.parse_args()
    folder = Path(__file__).resolve().parent
    try:
        kit = read_sealed(folder / KIT, KIT_FORMAT)
        check_files(folder, kit["files"])
        measure(folder, kit, not asked.models)
    except SealError as error:
        sys.exit(f"Error: {error}")
    for line in lines(folder):
        _say(line)
    _say(f"Written: {folder / MEASURED}. Bring this folder back.")


if __name__ == "__main__":
    main()
