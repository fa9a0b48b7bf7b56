"""Kit runner: measures the models of a run, and sub-blocks, on the machine that they are for.

This file is run.py of a kit. It needs numpy and the runtime, and nothing of this package. Every set
of graphs is timed in a process of its own; finished ones are kept, so that it can be stopped and
started again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .kit_files import (
    ANSWERS,
    BLOCKS,
    KIT,
    KIT_FORMAT,
    MEASURED,
    MODELS,
    lines,
    parts_of,
    write_results,
)
from .onnxruntime_graph import PACKAGE, Graph, version
from .runner import REFUSALS, check_installed, identity
from .seal import SealError, check_files, read_sealed
from .timing import RESULT


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
    here = identity(kit["device"], kit["chip"])
    write_results(folder, kit, here, {PACKAGE: version()}, kernels)
    if blocks:
        sets = parts_of(folder, BLOCKS)
        for done, part in enumerate(sets, 1):
            _measured_set(part)
            _say(f"{done} of {len(sets)} sets of sub-blocks")
        write_results(folder, kit, here, {PACKAGE: version()}, kernels)


def _measured_set(part: Path) -> None:
    """Measure a set in a fresh process, if it was not yet."""
    if not (part / RESULT).exists():
        script = Path(__file__).with_name("runner.py")
        done = subprocess.run([sys.executable, str(script), str(part)])
        if done.returncode:
            sys.exit(f"Error: {part}: what measures it ended with exit status {done.returncode}")


def answer(folder: Path, key: str, about: dict[str, Any], kit: dict[str, Any]) -> dict[str, int]:
    """Write a model's answers to the images of the kit; the kernels that it executes."""
    images, batch = np.load(folder / about["input"]), kit["device"]["batch"]
    missing = np.arange(-len(images) % batch)  # may be more than there are
    padded = np.concatenate([images, images.take(missing, axis=0, mode="wrap")])
    try:
        graph = Graph(str(folder / about["file"]), kit["device"])
        runs = [graph.run(x) for x in np.split(padded, len(padded) // batch)]
        kernels = graph.kernels()
    except REFUSALS:
        return {}  # the timing says why it is refused
    (folder / ANSWERS).mkdir(exist_ok=True)
    np.save(folder / ANSWERS / f"{key}.npy", np.concatenate(runs)[: len(images)])
    return kernels


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
        check_installed()
        measure(folder, kit, not asked.models)
    except SealError as error:
        sys.exit(f"Error: {error}")
    for line in lines(folder):
        _say(line)
    _say(f"Written: {folder / MEASURED}. Bring this folder back.")


if __name__ == "__main__":
    main()
