"""The cost model: a known law is found, kept in a file, and its limits are told."""

import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import CostModel, LatencyTable, workload
from vitpareto.cost_models.foreign.exchange import reference_vectors, to_csv, to_flat, to_ofa
from vitpareto.cost_models.predict.correction import Correction
from vitpareto.cost_models.predict.error_figures import mape, spearman
from vitpareto.cost_models.predict.regressor import Regressor
from vitpareto.cost_models.tables.latency_table import Row
from vitpareto.spaces import Policy, SearchSpace
from vitpareto.spaces.errors import CostError

from ...search.compress import helpers
from ..conftest import law_ms, network_ms, network_row, runs_as


@pytest.fixture(scope="module")
def model(fitted: CostModel) -> CostModel:
    return fitted


def test_a_known_law_is_found(model: CostModel, space: SearchSpace, recipes) -> None:
    fresh = space.sample(200, 9)
    actual = np.array([network_ms(c, recipes) for c in fresh])
    found = model.predict(fresh)
    assert mape(actual, found.latency_ms) < 1.5
    assert spearman(actual, found.latency_ms) > 0.998
    covered = np.mean((found.low_ms <= actual) & (actual <= found.high_ms))
    assert covered > 0.8


def test_the_middle_of_two_ways_is_predicted(table: LatencyTable, space, recipes) -> None:
    """And intervals hold both of them."""
    twice = [
        replace(row, median_ms=row.median_ms * factor, way=way, session=way)
        for row in table.of_kind("model")
        for way, factor in (("in turn", 0.96), ("one by one", 1 / 0.96))
    ]
    model = CostModel.fit(LatencyTable(table.identity, [*table.of_kind("unit"), *twice]), recipes)
    fresh = space.sample(100, 9)
    actual = np.array([network_ms(c, recipes) for c in fresh])
    found = model.predict(fresh)
    assert mape(actual, found.latency_ms) < 1.5
    held = (found.low_ms < actual * 0.96) & (actual / 0.96 < found.high_ms)
    assert held.mean() > 0.7
    assert np.median(found.high_ms / found.low_ms) < 1.2


def test_networks_are_fitted_as_they_were_made(table: LatencyTable, space, recipes) -> None:
    """Another recipe may have been the fastest when they were: the table says which it was."""
    rng, rows, before = random.Random(3), list[Row](), dict(recipes)
    assert before["mlp/mlp w8a8"] == "dynamic8"
    before |= {group: "stored8" for group, name in recipes.items() if name == "dynamic8"}
    for i, candidate in enumerate(space.sample(60, 2)):
        book = (dict(recipes), before)[i % 2]
        rows.append(replace(network_row(candidate, book, rng), recipes=json.dumps(book)))
    units = {runs_as(b, before) for c in space.sample(60, 1) for b in workload(c).sub_blocks}
    rows += [Row("unit", u.key, law_ms(u), 0.0, 0.0, 10, anchor_ms=0.5) for u in units]
    mixed = LatencyTable(table.identity, [*table.of_kind("unit"), *rows])
    fresh = space.sample(100, 9)
    actual = np.array([network_ms(c, recipes) for c in fresh])
    model = CostModel.fit(mixed, recipes)
    assert mape(actual, model.predict(fresh).latency_ms) < 1.5
    made = rows[:60]
    found = model.predict_measured(made).latency_ms
    assert found == pytest.approx([row.median_ms for row in made], rel=0.05)
    untold = LatencyTable(mixed.identity, [replace(row, recipes="") for row in mixed.rows])
    assert mape(actual, CostModel.fit(untold, recipes).predict(fresh).latency_ms) > 3


def test_sub_blocks_add_up(model: CostModel, space: SearchSpace) -> None:
    for candidate in space.sample(5, 4):
        parts = sum(ms for _, _, ms in model.sub_blocks(candidate))
        total = model.predict([candidate]).latency_ms[0]
        assert parts + model.rest_ms(candidate) == pytest.approx(total)


def test_one_and_many_agree(model: CostModel, space: SearchSpace) -> None:
    some = space.sample(20, 6)
    together = model.predict(some).latency_ms
    assert together == pytest.approx([model.predict([c]).latency_ms[0] for c in some])
    assert model.predict([]).latency_ms.shape == (0,)


def test_a_file_keeps_everything(model: CostModel, space: SearchSpace, tmp_path: Path) -> None:
    model.save(tmp_path / "m.json")
    again = CostModel.load(tmp_path / "m.json")
    some = space.sample(30, 7)
    for name in ("latency_ms", "low_ms", "high_ms", "peak_memory_mb", "size_mb", "inside"):
        left, right = getattr(model.predict(some), name), getattr(again.predict(some), name)
        assert left == pytest.approx(right, rel=1e-5)
    assert again.recipes == model.recipes


def test_outside_is_flagged_and_wider(model: CostModel) -> None:
    big = SearchSpace.from_yaml("deit_tiny").sample(5, 0)
    known = model.predict(SearchSpace.from_yaml("digits").sample(60, 1))  # those of the table
    outside = model.predict(big)
    assert known.inside.all() and not outside.inside.any()
    width = np.log(outside.high_ms / outside.low_ms).min()
    assert width > np.log(known.high_ms / known.low_ms).max()


def test_size_is_that_of_the_parts(model: CostModel, table: LatencyTable) -> None:
    from vitpareto.spaces import Candidate

    rows = list(table.of_kind("model"))
    found = model.predict([Candidate.from_json(row.key) for row in rows]).size_mb
    assert found == pytest.approx([row.graph_bytes / 1e6 for row in rows], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=99), "version must be 1, got 99"),
        (lambda d: d.update(format="x"), "not a cost model"),
        (lambda d: d.pop("groups"), "something missing or wrong"),
        (lambda d: d["correction"].update(extra=1), "something missing or wrong"),
        (lambda d: d["correction"].update(constant_ms=math.nan), "correction holds a number that"),
        (lambda d: d["groups"].clear(), "groups is empty"),
    ],
)
def test_bad_files(model: CostModel, tmp_path: Path, change, message: str) -> None:
    data = model.to_dict()
    data = json.loads(json.dumps(data))
    change(data)
    (tmp_path / "m.json").write_text(json.dumps(data))
    with pytest.raises(CostError, match=message) as caught:
        CostModel.load(tmp_path / "m.json")
    assert "\n" not in str(caught.value)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="cannot be read"):
        CostModel.load(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(CostError, match="not JSON"):
        CostModel.load(tmp_path / "x.json")


def test_loading_and_predicting_needs_numpy_only(model: CostModel, tmp_path: Path, space) -> None:
    model.save(tmp_path / "m.json")
    (tmp_path / "c.json").write_text(space.sample(1, 0)[0].to_json())
    code = (
        "import sys; from vitpareto.cost_models import CostModel; from vitpareto.spaces import "
        "Candidate; m = CostModel.load(sys.argv[1]); c = Candidate.from_json(open(sys.argv[2])"
        ".read()); assert m.predict([c]).latency_ms[0] > 0; heavy = {'torch', 'onnx', "
        "'onnxruntime', 'ray', 'optuna', 'scipy', 'sklearn', 'pydantic'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "m.json"), str(tmp_path / "c.json")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reference_vectors_can_be_recomputed(model: CostModel, space: SearchSpace) -> None:
    """With what the model's file says, also where weights are stored otherwise than multiplied."""
    first, *others = space.sample(3, 0)
    stored = helpers.candidate(first.architecture, Policy(8))
    found = json.loads(json.dumps(reference_vectors(model, [stored, *others])))
    data = json.loads(json.dumps(model.to_dict()))
    correction = Correction(**data["correction"])
    for vector in found["vectors"]:
        for part in vector["sub_blocks"]:
            own = Regressor.from_dict(data["groups"][part["group"]])
            ms = own.predict([part["terms"]], [part["numbers"]]).ms
            kinds = correction.kinds
            kind = np.array([kinds.index(part["group"]) if part["group"] in kinds else -1])
            found_ms = correction.unit_ms(ms, kind, np.array([part["terms"]["weight_bytes"]]))
            assert found_ms == pytest.approx([part["latency_ms"]], rel=1e-4)
        parts = sum(part["latency_ms"] for part in vector["sub_blocks"])
        assert parts + vector["rest_ms"] == pytest.approx(vector["latency_ms"])
        assert vector["low_ms"] <= vector["latency_ms"] <= vector["high_ms"]


def test_exports_hold_every_unit(table: LatencyTable) -> None:
    keys = {row.key for row in table.of_kind("unit")}
    assert set(to_flat(table)) == keys == set(to_ofa(table))
    assert all(set(entry) == {"count", "mean", "std"} for entry in to_ofa(table).values())


def test_exports_tell_all_repeats(table: LatencyTable) -> None:
    """Of several sessions, whose counts add up."""
    row = next(table.of_kind("unit"))
    ends = {"p10_ms": row.median_ms, "p90_ms": row.median_ms}
    again = replace(row, **ends, median_ms=3 * row.median_ms, n=7, session="t")
    both = LatencyTable(table.identity, [replace(row, **ends), again])
    found, usual = to_ofa(both)[row.key], to_flat(both)[row.key]
    assert found == {"count": row.n + 7, "mean": pytest.approx(usual, abs=1e-6), "std": 0}
    assert usual == pytest.approx(2 * row.median_ms)
    assert to_csv(both).endswith(f",{found['mean']},0.0,17\n")


def test_a_table_without_units_cannot_be_fitted(recipes) -> None:
    with pytest.raises(CostError, match="no measured sub-blocks"):
        CostModel.fit(LatencyTable({}), recipes)


def test_many_are_predicted_at_once(model: CostModel, space: SearchSpace) -> None:
    some = space.sample(50, 3)
    kinds = {unit.kind for c in some for unit in workload(c).sub_blocks}
    assert kinds == {"stem", "mixer", "mlp", "head"}
    assert len(model.predict(some * 20).latency_ms) == 1000
