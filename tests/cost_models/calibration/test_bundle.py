"""A bundle measures where nothing of ours is installed, and its table is that of the machine."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import CostModel, Device, LatencyTable, calibrate
from vitpareto.cost_models.calibration.bundle import (
    collect,
    maker_of,
    package_of,
    recipes_of,
    write_bundle,
)
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import needs_runtime
from .conftest import TINY

pytestmark = pytest.mark.onnx


@pytest.mark.usefixtures("brief")
def test_a_bundle_measures_where_nothing_is_installed(
    tiny: SearchSpace, device: Device, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    written = write_bundle(device, tiny, folder, most=6, networks=12)
    with pytest.raises(CostError, match="new or empty folder"):
        write_bundle(device, tiny, folder)
    with pytest.raises(CostError, match=r"run `python run\.py` there first"):
        collect(folder)
    blocked = "import sys; sys.modules['vitpareto'] = sys.modules['torch'] = None; "
    code = f"{blocked} import runpy; sys.argv = ['run.py']; sys.path.insert(0, '.'); "
    code += "runpy.run_path('run.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = collect(folder)
    assert sum(row.way == "in turn" for row in table.rows) == written
    assert {row.way for row in table.of_kind("model")} == {"in turn", "one by one"}
    assert table.identity == device.identity()
    model = calibrate(device, tiny, 5.0, tables=[folder], out=tmp_path / "m.json")
    assert model.validation["sub_blocks"] >= 6 and (tmp_path / "m.json").exists()
    found = model.predict(tiny.sample(5, 1))
    assert (found.latency_ms > 0).all() and (found.peak_memory_mb > 2).all()
    with pytest.raises(
        CostError, match=r"bundle: was measured with threads 1, device 'here' has 2"
    ):
        calibrate(replace(device, threads=2), tiny, tables=[folder])
    _the_fastest_recipe_is_taken(folder, table, model)
    (folder / "recipes.json").write_text('{"mlp/mlp w8a8": "static8"}')
    with pytest.raises(CostError, match=r"recipes\.json: needs trials and sizes"):
        collect(folder)


def test_networks_of_a_bundle_are_read_as_they_were_made(device: Device, tmp_path: Path) -> None:
    """Also those with exits, which are measured without: each once in a set."""
    exits = TINY.replace("depth: [1, 2]", "exits: [none, 1]\n    depth: 2")
    write_bundle(device, SearchSpace.from_text(exits), tmp_path, most=0, networks=10)
    plans = [(path.parent, json.loads(path.read_text())) for path in tmp_path.glob("*/plan.json")]
    graphs = [(part, graph) for part, plan in plans for graph in plan["graphs"]]
    networks = [(part / graph["file"], graph) for part, graph in graphs if graph["kind"] == "model"]
    assert len(networks) == len({graph["key"] for _, graph in networks}) > 5
    bench = Bench(maker_of(device))
    for path, graph in networks:
        again = bench.network(Candidate.from_json(graph["key"]), json.loads(graph["recipes"]))
        assert again.model == path.read_bytes() and again.recipes == graph["recipes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu-openvino", "cpu-litert"])
def test_a_bundle_of_another_runtime(tiny: SearchSpace, tmp_path: Path, name: str) -> None:
    device = Device.load(name)
    needs_runtime(device.runtime)
    write_bundle(device, tiny, tmp_path, most=6, networks=12)
    assert f"numpy {package_of(device)}" in (tmp_path / "README.txt").read_text()
    subprocess.run([sys.executable, "run.py"], cwd=tmp_path, check=True)
    table = collect(tmp_path)
    assert table.identity == device.identity()
    model = calibrate(device, tiny, 5.0, tables=[tmp_path])
    assert (model.predict(tiny.sample(5, 1)).latency_ms > 0).all()


def _the_fastest_recipe_is_taken(folder: Path, table: LatencyTable, model: CostModel) -> None:
    """Of all that serve a precision: a bundle measures each, alone and in networks."""
    assert model.recipes == recipes_of(folder, table)
    group, networks = "mlp/mlp w8a8", list(table.of_kind("model"))
    assert {(row.book or {}).get(group) for row in networks} >= {"dynamic8", "static8"}
    for slow in ("dynamic8", "static8"):
        rows = [
            replace(row, median_ms=row.median_ms * (9 if row.key.endswith(slow) else 1))
            for row in table.rows
        ]
        best = recipes_of(folder, LatencyTable(table.identity, rows))
        assert {best[group], slow} == {"dynamic8", "static8"}
    found = model.predict_measured(networks)
    assert found.size_mb == pytest.approx([row.graph_bytes / 1e6 for row in networks], abs=2e-4)
    errors = abs(found.latency_ms / table.levels(networks) - 1)
    assert np.median(errors) < 0.5 and errors.max() < 1.5  # of six sub-blocks, on a shared machine
