"""Predicted sizes are those of real files, from the graphs of a few sub-blocks."""

import json

import numpy as np
import pytest

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.calibration.selection import occurring
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.predict.file_size import SizeModel, untold
from vitpareto.cost_models.tables.latency_table import Row
from vitpareto.cost_models.units.precision_recipes import recipe_for
from vitpareto.cost_models.units.unit import unit_of
from vitpareto.search.delivery.handover import export_candidates
from vitpareto.spaces import SearchSpace

pytestmark = pytest.mark.onnx


@pytest.mark.parametrize(
    "preset",
    [
        "digits",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("cifar", "deit_tiny", "mobile_hybrid")
        ),
    ],
)
def test_sizes_are_those_of_exported_files(preset: str, tmp_path) -> None:
    space, device = SearchSpace.from_yaml(preset), Device.load("cpu-1t")
    bench = Bench(device)
    found = occurring(space.sample(300, 0))
    recipes = device.recipes
    units = [unit_of(block, recipe_for(block, recipes)) for block in found]
    rows = bench.sizes(untold(units, ()))
    assert len(rows) < len(units) / 10
    model = SizeModel.fit(rows)

    def parts(candidate) -> float:
        found = [unit_of(b, recipe_for(b, recipes)) for b in workload(candidate).sub_blocks]
        return sum(unit.weight_bytes + model.graph_bytes(unit) for unit in found)

    known = space.sample(3, 1)
    graphs = [bench.network(candidate, recipes) for candidate in known]
    networks = [Row("model", g.key, 1, 1, 1, 1, graph_bytes=g.graph_bytes) for g in graphs]
    model = model.with_models(networks, np.array([parts(candidate) for candidate in known]))
    fresh = space.sample(4, 2)
    (tmp_path / "c.json").write_text(json.dumps([json.loads(c.to_json()) for c in fresh]))
    paths = export_candidates(tmp_path / "c.json", True, "onnxruntime", tmp_path / "x")
    for candidate, path in zip(fresh, paths, strict=True):
        predicted = parts(candidate) + model.constant_bytes
        assert predicted == pytest.approx(path.stat().st_size, rel=1e-3, abs=200)
