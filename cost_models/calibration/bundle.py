"""Bundle: a folder that measures another machine, and the table that is made of its results.

The folder holds model files and a few Python files that need numpy and the runtime only. There,
`python run.py` times everything and writes a result beside each set; `collect` makes a table of
them, which `calibrate --table` reads. A kit holds such sets, too, beside the models of a run.

Which recipe is the fastest there is not known when the folder is written. So sub-blocks are in it
in every recipe that serves them, and each network in one of several books of recipes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...spaces import Candidate, SearchSpace
from ...spaces.errors import CostError
from ..device import Device
from ..measure.bench import GraphMaker, TimedGraph, rows_of, write_plan
from ..measure.footprint import Footprint
from ..predict.file_size import untold
from ..standalone import (
    executorch_graph,
    litert_graph,
    mnn_graph,
    ncnn_graph,
    onnxruntime_graph,
    openvino_graph,
)
from ..standalone.energy_meter import NVIDIA
from ..standalone.kit_files import BLOCKS, KIT, KIT_FORMAT, MEASURED, MEASURED_FORMAT
from ..standalone.seal import SealError, check_files, read_sealed
from ..standalone.timing import IN_TURN, ONE_BY_ONE, PLAN, RESULT
from ..tables.latency_table import LatencyTable, Row, with_footprints
from ..units.precision_recipes import recipe_for
from ..units.unit import Unit, parse_unit, unit_of
from ..web.parts import RUNTIMES
from .selection import choose, fastest, occurring, trials

Progress = Callable[[float, str], None]

STANDALONE = Path(__file__).parents[1] / "standalone"
STANDALONE_RUNTIMES = {  # runtime -> what pip installs of it
    "onnxruntime": onnxruntime_graph.PACKAGE,
    "openvino": openvino_graph.PACKAGE,
    "litert": litert_graph.PACKAGE,
    "ncnn": ncnn_graph.PACKAGE,
    "mnn": mnn_graph.PACKAGE,
    "executorch": f"torch {executorch_graph.PACKAGE}",  # which does not say that it needs torch
}
# How files of `standalone` import each other; the graph is that of ONNX Runtime in all but copies.
_BESIDE = re.compile(r"^from \.(?:onnxruntime_(?=graph))?(\w+) import", re.MULTILINE)
SURVEY = 1000
SET = 40
FOOTPRINTS = 4  # networks of a set whose memory and energy are measured
ROUNDS = 10  # samples of each graph
ABOUT = "recipes.json"
README = """Measures the latency of the graphs in this folder.

    pip install numpy {package}
    python run.py

Energy is measured as well where /sys/class/powercap can be read, or where there
is one NVIDIA GPU and nvidia-ml-py. Keep the machine quiet. It can be stopped and
started again; finished sets are kept. Then send the folder back.
"""


def write_bundle(
    device: Device,
    space: SearchSpace,
    folder: Path,
    most: int = 600,
    networks: int = 40,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Write a bundle for a machine that is not this one.

    Args:
        device: what to ask for there: provider, threads, batch, recipes.
        space: whose sub-blocks and networks to measure.
        folder: new, or empty.
        most: sub-blocks at most, beside those on which recipes are tried.
        networks: whole networks; a quarter of them are for validation.
        seed: of what is sampled.
        progress: called with the share that is done, and what is being done.

    Returns:
        The number of graphs.

    Raises:
        CostError: the folder has something in it, or nothing measures the device's runtime alone.
        MissingRuntimeError: files for the runtime cannot be made here.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CostError(f"{folder}: a bundle needs a new or empty folder")
    package = package_of(device)
    folder.mkdir(parents=True, exist_ok=True)
    copy_program(device, folder, {"runner": "run"})
    (folder / "README.txt").write_text(README.format(package=package), encoding="utf-8")
    return write_sets(device, space, folder, most, networks, seed, progress)


def package_of(device: Device) -> str:
    """What pip installs of a device's runtime.

    Raises:
        CostError: nothing measures the runtime alone.
    """
    if device.runtime not in STANDALONE_RUNTIMES:
        pages = ", which a kit of a run measures in browsers" if device.runtime in RUNTIMES else ""
        raise CostError(
            f"what measures another machine is written for {', '.join(STANDALONE_RUNTIMES)}; "
            f"device {device.name!r} has {device.runtime}{pages}"
        )
    if device.runtime == "onnxruntime" and device.chip == NVIDIA:
        return onnxruntime_graph.ON_NVIDIA
    return STANDALONE_RUNTIMES[device.runtime]


def copy_program(device: Device, folder: Path, others: Mapping[str, str]) -> None:
    """Copy what measures with the device's runtime alone into a folder.

    There they are no package, so each imports the others by their names alone.

    Args:
        device: with that runtime.
        folder: to write to.
        others: files of `standalone` -> their names there, beside those that all need.
    """
    names = {name: name for name in ("timing", "energy_meter", "gpu", "silence")}
    copy_modules(folder, {**names, f"{device.runtime}_graph": "graph", **others})


def copy_modules(folder: Path, names: Mapping[str, str]) -> None:
    """Copy files of `standalone` into a folder, by their names there."""
    for source, name in names.items():
        text = (STANDALONE / f"{source}.py").read_text(encoding="utf-8")
        text = _BESIDE.sub(r"from \1 import", text)
        (folder / f"{name}.py").write_text(text, encoding="utf-8", newline="\n")


def maker_of(device: Device) -> Device:
    """A device as one core of this machine makes its files, where what converts them runs."""
    return replace(device, threads=1, affinity=())


def write_sets(
    device: Device,
    space: SearchSpace,
    folder: Path,
    most: int,
    networks: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Write sets of graphs with their plans, and what `collect` and `recipes_of` need.

    Args:
        device: what to ask for on the other machine.
        space: whose sub-blocks and networks to measure.
        folder: to write to.
        most: sub-blocks at most, beside those on which recipes are tried.
        networks: whole networks; a quarter of them are for validation.
        seed: of what is sampled.
        progress: called with the share that is done, and what is being done.

    Returns:
        The number of graphs.

    Raises:
        MissingRuntimeError: files for the runtime cannot be made here.
    """
    maker = GraphMaker(maker_of(device))
    counts = occurring(space.sample(SURVEY, seed))
    tried = trials(counts, device.recipes)
    books = _books(tried)
    chosen = [unit for units in tried.values() for unit in units]
    rng = np.random.default_rng(seed)
    for left, book in zip(range(len(books), 0, -1), books, strict=True):
        known = {unit.key for unit in chosen}
        room = max(most - len(known), 0) // left
        chosen += choose(counts, book, known, {}, room, rng, device.runtime)
    picked = list({unit.key: unit for unit in chosen}.values())
    rng.shuffle(picked)  # type: ignore[arg-type]
    sets: list[list[TimedGraph]] = []
    total = len(picked) + networks
    for start in range(0, len(picked), SET):
        if progress:
            progress(start / total, "writing sub-blocks")
        sets.append([maker.unit(unit) for unit in picked[start : start + SET]])
    for start in range(0, networks, 10):
        if progress:
            progress((len(picked) + start) / total, "writing networks")
        drawn = space.sample(min(10, networks - start), seed + 1 + start)
        # As they are measured and found again, without exits; some differ in these alone.
        sample = dict.fromkeys(candidate.without_exits() for candidate in drawn)
        kind = "fresh" if start // 10 % 4 == 3 else "model"
        sets.append([maker.network(c, _book_of(c, books), kind) for c in sample])
    for index, graphs in enumerate(sets):
        part = folder / f"{index:03d}"
        part.mkdir(parents=True)
        alone = graphs[0].kind == "unit"
        ways, footprints = ([IN_TURN], 0) if alone else ([IN_TURN, ONE_BY_ONE], FOOTPRINTS)
        write_plan(part, device, [*graphs, *maker.anchors], ROUNDS, seed + index, ways, footprints)
    needed = (unit_of(block, recipe_for(block, book)) for book in books for block in counts)
    about = {
        "trials": {group: [unit.key for unit in units] for group, units in tried.items()},
        "sizes": {row.key: row.graph_bytes for row in maker.sizes(untold(needed, picked))},
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return sum(map(len, sets))


def sets_in(folder: Path) -> Path:
    """Folder of the sets that were measured: a bundle itself, or the sub-blocks of a kit.

    Raises:
        CostError: a kit that was not measured, or in which something was edited.
    """
    if not (folder / KIT).is_file():
        return folder
    if not (folder / MEASURED).is_file():
        raise CostError(f"{folder}: has no {MEASURED}; run there first what README.txt in it says")
    try:
        kit = read_sealed(folder / KIT, KIT_FORMAT)
        measured = read_sealed(folder / MEASURED, MEASURED_FORMAT)
        check_files(folder, kit["files"])
        check_files(folder, measured["files"])
    except SealError as error:
        raise CostError(str(error)) from error
    if measured["kit"] != kit["digest"]:
        raise CostError(f"{folder / MEASURED}: is that of another kit")
    if not any(name.startswith(f"{BLOCKS}/") for name in measured["files"]):
        raise CostError(f"{folder}: its sub-blocks were not measured: run `python run.py` there")
    return folder / BLOCKS


def collect(folder: Path) -> LatencyTable:
    """The table of a bundle that has been run.

    Raises:
        CostError: nothing was measured, or on several machines.
    """
    table: LatencyTable | None = None
    for path in sorted(folder.glob(f"*/{RESULT}")):
        plan = _read(path.with_name(PLAN))
        answer = _read(path)
        rows: list[Row] = []
        for number, session in enumerate(answer["sessions"]):
            name = f"{session['unix_time']:x}-{path.parent.name}-{number}"
            rows += rows_of(plan["graphs"], session, name)
        measured = zip(plan["graphs"], answer["footprints"], strict=False)
        rows = with_footprints(rows, {entry["key"]: Footprint(*fp) for entry, fp in measured})
        own = LatencyTable(answer["identity"], rows)
        table = own if table is None else table.merged(own)
    if table is None:
        raise CostError(f"{folder}: no set has a {RESULT}; run `python run.py` there first")
    sizes = _about(folder)["sizes"].items()
    table.append(Row("size", key, 0.0, 0.0, 0.0, 0, graph_bytes=size) for key, size in sizes)
    return table


def recipes_of(folder: Path, table: LatencyTable) -> dict[str, str]:
    """Recipes that are the fastest on the machine: group of sub-blocks -> recipe.

    Args:
        folder: of a bundle.
        table: with what it measured.

    Raises:
        CostError: the machine takes no recipe of some group.
    """
    level = {row.key: row.median_ms for row in table.of_kind("unit")}
    return {
        group: fastest([parse_unit(key) for key in keys], level)
        for group, keys in _about(folder)["trials"].items()
    }


def _books(tried: dict[str, list[Unit]]) -> list[dict[str, str]]:
    """Choices of a recipe for every group, so that each recipe is in one of them."""
    names = {group: list(dict.fromkeys(u.recipe for u in units)) for group, units in tried.items()}
    count = max(map(len, names.values()))
    return [{g: recipes[i % len(recipes)] for g, recipes in names.items()} for i in range(count)]


def _book_of(candidate: Candidate, books: list[dict[str, str]]) -> dict[str, str]:
    """The book that a candidate's network is made with; equal for equal candidates."""
    return books[int(candidate.key, 16) % len(books)]


def _about(folder: Path) -> Any:
    """Description of a bundle, from its folder."""
    about = _read(folder / ABOUT)
    if not isinstance(about, dict) or about.keys() != {"trials", "sizes"}:
        raise CostError(
            f"{folder / ABOUT}: needs trials and sizes: the bundle was written by another release "
            "of vitpareto"
        )
    return about


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CostError(f"{path}: cannot be read: {error}") from error
