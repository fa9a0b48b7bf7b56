"""Bundle: a folder that measures another machine, and what comes back from it.

The folder holds ONNX files and two Python files that need numpy and onnxruntime only. There,
`python run.py` times everything and writes a result beside each set; `collect` makes a table of
them, which `calibrate --table` reads.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..spaces import SearchSpace
from ..spaces.errors import CostError
from .bench import Bench, Graph, rows_of, write_plan
from .device import Device
from .measure import IN_TURN, ONE_BY_ONE
from .plan import choose, occurring, trials
from .runner import PLAN, RESULT
from .table import LatencyTable, Row

HERE = Path(__file__).parent
SURVEY = 1000
SET = 40
README = """Measures the latency of the graphs in this folder.

    pip install numpy onnxruntime
    python run.py

Keep the machine quiet. It can be stopped and started again; finished sets are kept. Then send
the folder back, or `python run.py` again for a second opinion.
"""


def write_bundle(
    device: Device,
    space: SearchSpace,
    folder: Path,
    units: int = 400,
    networks: int = 40,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> int:
    """Write a bundle for a machine that is not this one.

    Args:
        device: what to ask for there: provider, threads, batch, recipes.
        space: whose sub-blocks and networks to measure.
        folder: new, or empty.
        units: sub-blocks at most.
        networks: whole networks; a quarter of them are for validation.
        seed: of what is sampled.
        progress: called with the share that is done, and what is being done.

    Returns:
        The number of graphs.

    Raises:
        CostError: the folder has something in it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CostError(f"{folder}: a bundle needs a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in (("runner.py", "run.py"), ("measure.py", "measure.py")):
        shutil.copy(HERE / source, folder / name)
    (folder / "README.txt").write_text(README, encoding="utf-8")
    # Graphs are made with the local runtime, whose provider need not be that of the target.
    bench = Bench(Device("bundle", "onnxruntime", "CPUExecutionProvider", 1, device.recipes,
                         device.batch))  # fmt: skip
    found = occurring(space.sample(SURVEY, seed))
    recipes = {group: tried[0].recipe for group, tried in trials(found, device.recipes).items()}
    chosen = [unit for tried in trials(found, device.recipes).values() for unit in tried]
    rng = np.random.default_rng(seed)
    known = {unit.key for unit in chosen}
    chosen += choose(found, recipes, known, {}, max(units - len(chosen), 0), rng)
    picked = list({unit.key: unit for unit in chosen}.values())
    rng.shuffle(picked)  # type: ignore[arg-type]
    sets: list[list[Graph]] = []
    total = len(picked) + networks
    for start in range(0, len(picked), SET):
        if progress:
            progress(start / total, "writing sub-blocks")
        sets.append([bench.unit(unit) for unit in picked[start : start + SET]])
    for start in range(0, networks, 10):
        if progress:
            progress((len(picked) + start) / total, "writing networks")
        sample = space.sample(min(10, networks - start), seed + 1 + start)
        kind = "fresh" if start // 10 % 4 == 3 else "model"
        sets.append([bench.network(candidate, recipes, kind) for candidate in sample])
    for index, graphs in enumerate(sets):
        part = folder / f"{index:03d}"
        part.mkdir()
        ways = [IN_TURN] if graphs[0].kind == "unit" else [IN_TURN, ONE_BY_ONE]
        write_plan(part, device, [*graphs, *bench.anchors], 10, seed + index, ways)
    (folder / "recipes.json").write_text(json.dumps(recipes, indent=1), encoding="utf-8")
    return sum(map(len, sets))


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
        own = LatencyTable(answer["identity"], rows)
        table = own if table is None else table.merged(own)
    if table is None:
        raise CostError(f"{folder}: no set has a {RESULT}; run `python run.py` there first")
    return table


def bundle_recipes(folder: Path) -> dict[str, str]:
    """Group of sub-blocks -> recipe that the bundle's networks were made with."""
    return _read(folder / "recipes.json")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CostError(f"{path}: cannot be read: {error}") from error
