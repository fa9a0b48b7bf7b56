"""Measuring for real: a small calibration, its resumption, an estimate of a file."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from vitpareto.cost_models import CostModel, Device, LatencyTable, calibrate, predict_onnx, workload
from vitpareto.cost_models.calibration import calibrate as module
from vitpareto.cost_models.calibration.calibrate import _Calibration, _resumed
from vitpareto.cost_models.calibration.selection import fastest, trials
from vitpareto.cost_models.graphs.modules import network
from vitpareto.cost_models.graphs.quantize import apply_recipes
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.measure.bench import TimedGraph
from vitpareto.cost_models.measure.capabilities import capabilities, devices
from vitpareto.cost_models.measure.footprint import Footprint
from vitpareto.cost_models.tables.latency_table import Row
from vitpareto.cost_models.units.precision_recipes import Book
from vitpareto.cost_models.units.unit import Unit, parse_unit
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError, RunError

from ..conftest import law_ms, network_ms
from .conftest import TINY

pytestmark = pytest.mark.onnx


@pytest.fixture(scope="module")
def stopped(tiny: SearchSpace, device: Device, tmp_path_factory) -> tuple[Path, LatencyTable]:
    """Where a calibration was to be saved that was stopped, and what it had measured."""
    out = tmp_path_factory.mktemp("model") / "m.json"

    def stop(share: float, text: str) -> None:
        if "whole networks" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(device, tiny, 20.0, out=out, progress=stop)
    assert not out.exists()
    return out, LatencyTable.load(out.with_suffix(".csv"))


@pytest.fixture(scope="module")
def calibrated(tiny: SearchSpace, device: Device, stopped) -> tuple[CostModel, Path]:
    """The same, gone on with."""
    out, _ = stopped
    said: list[tuple[float, str]] = []
    model = calibrate(device, tiny, 4.0, out=out, progress=lambda s, t: said.append((s, t)))
    assert said[0][0] == 0.0 and said[-1][1] == "fitting"
    return model, out


def test_a_calibration_predicts_what_it_has_not_seen(calibrated, tiny: SearchSpace) -> None:
    model, out = calibrated
    found = model.validation
    assert found["sub_blocks"] > 10 and found["networks_fitted"] > 0
    assert found["space"] == "tiny"
    predicted = CostModel.load(out).predict(tiny.sample(20, 99))
    assert (predicted.latency_ms > 0).all() and (predicted.latency_ms < 5).all()
    assert (predicted.low_ms <= predicted.latency_ms).all()
    assert predicted.peak_memory_mb.min() > 0


def test_it_goes_on_where_it_was_stopped(stopped, calibrated) -> None:
    out, kept = stopped
    assert len(kept) > 0
    assert all(len(row.samples_ms) == row.n for row in kept.of_kind("unit"))
    after = LatencyTable.load(out.with_suffix(".csv"))
    assert after.rows[: len(kept)] == kept.rows and len(after) > len(kept)
    new = {row.key for row in after.rows[len(kept) :]}
    assert not new & {row.key for row in kept.rows}


@pytest.mark.usefixtures("brief")
def test_a_calibration_that_knows_large_sub_blocks_alone_says_so(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate(device, SearchSpace.from_yaml("digits"), 0.1)
    (words,) = [r.getMessage() for r in caplog.records if "calibrate_s" in r.getMessage()]
    assert words.startswith("0.1 s sufficed to try recipes")


@pytest.mark.usefixtures("brief")
def test_the_least_time_gives_a_sane_model_that_says_what_it_lacks(
    device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And networks that were fitted validate nothing, however small the space is."""
    small = SearchSpace.from_text(
        TINY.replace("[1, 2]", "1").replace("[1.0, 2.0]", "1.0").replace("[4, 8]", "4")
    )
    model = calibrate(device, small, 0.1, out=tmp_path / "new" / "m.json")
    assert model.validation["networks_fresh"] == 0 and model.validation["networks_fitted"] > 0
    words = "the cost model is not validated: no network was measured that it was not fitted to"
    assert words in [record.getMessage() for record in caplog.records]
    assert not [r for r in caplog.records if "calibrate_s" in r.getMessage()]  # all are known
    assert (model.predict(small.sample(5, 1)).peak_memory_mb > 2).all()
    calibrate(device, small, 0.1, out=tmp_path / "new" / "m.json")
    kinds: dict[str, set[str]] = {}
    for row in LatencyTable.load(tmp_path / "new" / "m.csv").rows:
        kinds.setdefault(row.key, set()).add(row.kind)
    assert all(len(found) == 1 for found in kinds.values())


def test_a_table_of_another_device_is_refused(tiny, device: Device, tmp_path: Path) -> None:
    other = LatencyTable(device.identity() | {"processor": "another"})
    other.save(tmp_path / "other.csv")
    with pytest.raises(
        CostError, match=r"other\.csv: was measured on another device: processor is"
    ):
        calibrate(device, tiny, 5.0, tables=[tmp_path / "other.csv"])


def test_a_model_is_not_written_over_its_measurements(tiny, device: Device, tmp_path: Path) -> None:
    out = tmp_path / "m.csv"
    LatencyTable(device.identity()).save(out)
    kept = out.read_text()
    for tables in ([], [tmp_path]):
        with pytest.raises(RunError, match=r"m\.csv: a model is JSON.* such as .*m\.json"):
            calibrate(device, tiny, 5.0, tables=tables, out=out)
    assert out.read_text() == kept


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        ("unit", "mlp/what", "not the key of a sub-block with its recipe"),
        ("unit", "mlp/what@float", "not the key of a sub-block: 'mlp/what'"),
        ("size", "mlp/mlp?norm=layer&act=gelu&width=8&grid=2@int9", "unknown recipe 'int9'"),
        ("model", "{}", "candidate: 'architecture' must be given"),
    ],
)
def test_a_table_of_unknown_things_is_refused(
    tiny, device: Device, tmp_path: Path, kind: str, key: str, message: str
) -> None:
    row = Row(kind, key, 1.0, 1.0, 1.0, 3)
    LatencyTable(device.identity(), [row]).save(tmp_path / "t.csv")
    with pytest.raises(CostError, match=rf"t\.csv: kind '{kind}', key .*{message}"):
        calibrate(device, tiny, 5.0, tables=[tmp_path / "t.csv"])


def test_an_arbitrary_file_is_estimated(calibrated, tiny: SearchSpace, tmp_path: Path) -> None:
    model, _ = calibrated
    for candidate in tiny.sample(4, 50):
        a = candidate.architecture
        graph = to_onnx(network(candidate), (1, a.in_chans, a.input_size, a.input_size))
        onnx.save(apply_recipes(graph, candidate, model.recipes), tmp_path / "x.onnx")
        found = predict_onnx(model, tmp_path / "x.onnx")
        parts = [(key, ms) for kind, key, ms in found.pieces if kind != "rest"]
        assert sum(ms for key, ms in parts if key) > 0.9 * sum(ms for _, ms in parts)
        own = model.predict([candidate])
        assert found.latency_ms == pytest.approx(own.latency_ms[0], rel=0.5)
        assert (found.coverage == 1) == own.inside[0]
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(CostError, match="not an ONNX file"):
        predict_onnx(model, tmp_path / "bad.onnx")


def test_capabilities_show_executed_kernels(device: Device) -> None:
    recipes = (*device.recipes, "stored8", "dynamic8_tensor", "blocks4", "blocks4_64")
    tried = replace(device, recipes=tuple(dict.fromkeys(recipes)))
    found = {(c.kind, c.recipe): c for c in capabilities(tried, kinds=["mlp"])}
    assert found["mlp", "float"].speedup == 1
    assert found["mlp", "dynamic8"].kernels["DynamicQuantizeMatMul"] == 2
    assert found["mlp", "static8"].kernels["MatMulIntegerToFloat"] == 2
    assert found["mlp", "dynamic8"].size_ratio < 0.3
    ms = {recipe: capability.latency_ms for (_, recipe), capability in found.items()}
    assert ms["stored8"] == ms["float"] and ms["dynamic8_tensor"] == ms["dynamic8"]  # timed once
    others = ("float", "dynamic8", "static8", "blocks4", "blocks4_64")
    assert len({ms[name] for name in others}) == len(others)
    presets = {entry["name"]: entry for entry in devices()}
    assert presets["cpu-1t"]["available"]
    assert "pip install" in presets["cuda"]["reason"]


def test_results_are_plain_data(calibrated) -> None:
    _, out = calibrated
    data = json.loads(out.read_text())
    assert data["units"]["time"] == "ms" and data["device"]["runtime"] == "onnxruntime"
    assert data["fingerprint"] and "pickle" not in out.read_text()


def test_a_table_with_fewer_columns_can_go_on(device: Device, tmp_path: Path) -> None:
    """Of an earlier release, or cut short: new rows stand under today's columns."""
    path = tmp_path / "m.csv"
    rows = [Row("unit", key, 0.5, 0.4, 0.6, 7, session="s") for key in (
        "mlp/mlp?norm=layer&act=gelu&width=8&grid=2&mlp_hidden=16@float",
        "mlp/mlp?norm=layer&act=gelu&width=16&grid=2&mlp_hidden=16@float")]  # fmt: skip
    LatencyTable(device.identity(), [replace(rows[1], median_ms=0.7)]).save(path)
    lines = path.read_text().splitlines()
    lines[-2:] = ["kind,key,median_ms", ",".join(lines[-1].split(",")[:3])]
    path.write_text("\n".join([*lines, "unit,torn"]))
    _resumed(device, [], path).append(rows[:1], path)
    assert [row.median_ms for row in LatencyTable.load(path).rows] == [0.7, 0.5]


@pytest.mark.parametrize(
    ("slow", "budget_s"),
    [
        *((1.0, 40.0), (3.0, 15.0)),  # time for all that there is, and hardly any
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1.0, 15.0), (3.0, 40.0))),
    ],
)
def test_networks_that_validate_come_before_the_bulk_of_sub_blocks(
    slow: float, budget_s: float, space: SearchSpace, device: Device, monkeypatch
) -> None:
    """On a machine whose speed is set by hand, with the times of one core of a server."""
    clock, said, recipes = [0.0], list[str](), dict[str, str]()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    work = _Calibration(device, space, budget_s, 0, [], None, lambda share, what: said.append(what))

    def unit(unit: Unit) -> TimedGraph:
        return TimedGraph("unit", unit.key, b"", (1,), 1, unit.weight_bytes + 500)

    def network(candidate: Candidate, book: Book, kind: str) -> TimedGraph:
        recipes.update(book)
        return TimedGraph(kind, candidate.to_json(), b"", (1,), 1, 9999)

    def time(graphs: Sequence[TimedGraph], rounds: int, way: str) -> list[Row]:
        each = 0.065 if graphs[0].kind == "unit" else 0.12
        clock[0] += slow * (0.6 + each * len(graphs))
        return [
            Row(g.kind, g.key, took(g), took(g), took(g), 8, g.graph_bytes, way=way,
                session=f"{clock[0]}")
            for g in graphs
        ]  # fmt: skip

    def took(graph: TimedGraph) -> float:
        if graph.kind == "unit":
            return law_ms(parse_unit(graph.key))
        return network_ms(Candidate.from_json(graph.key), recipes)

    def footprint(graph: TimedGraph) -> Footprint:
        clock[0] += slow * 0.33
        return Footprint(10.0, 0.0)

    for name, fake in {"unit": unit, "network": network, "time": time, "footprint": footprint,
                       "sizes": lambda units: []}.items():  # fmt: skip
        monkeypatch.setattr(work.bench, name, fake)
    clock[0] += slow * 0.4
    model = work.run()
    order = [what.removeprefix("measuring ").partition(",")[0] for what in said]
    first = order.index("sub-blocks") if "sub-blocks" in order else len(order)
    assert order[:first].count("whole networks") == 2
    assert model.validation["networks_fitted"] and model.validation["networks_fresh"]
    if slow * 40 <= 3 * budget_s:  # there is time, and nearly all of it is used
        assert 0.8 * budget_s < clock[0] <= budget_s
        assert model.validation["sub_blocks"] > (250 if slow * 40 == budget_s else 50)
        assert model.validation["mape"] < 8


def test_a_restless_set_is_measured_again_after_the_first_that_validates(
    tiny: SearchSpace, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _Calibration(device, tiny, 1e9, 0, [], None, lambda share, text: None)
    measured: list[tuple[str, tuple[str, ...]]] = []

    def disturbed(graphs, rounds, way):
        measured.append((graphs[0].kind, tuple(graph.key for graph in graphs)))
        return [Row(g.kind, g.key, 1.0, 1.0, 1.5, 8, way=way, session=f"{len(measured)}")
                for g in graphs]  # fmt: skip

    monkeypatch.setattr(work.bench, "time", disturbed)
    monkeypatch.setattr(work.bench, "footprint", lambda graph: (10.0, 0.0))
    recipes = work.choose_recipes()
    measured.clear()
    for _ in range(5):
        work.measure_networks(recipes)
    sets = measured[::2]  # each is timed in two ways
    assert [kind for kind, _ in sets] == ["model", "fresh", "model", "fresh", "model"]
    assert sets[2] == sets[0] and sets[3] == sets[1]
    assert sets[4] not in sets[:4]  # what is still disturbed is left at that


def test_what_is_measured_alike_is_tried_once(space: SearchSpace) -> None:
    """Zeros change no kernel, so sub-blocks that differ in them are one unit."""
    (plain,) = [u for u in workload(space.largest()).sub_blocks if u.kind == "head"]
    sparse = replace(plain, policy=replace(plain.policy, sparsity=0.5))
    units = trials(Counter([plain, sparse]), ("float",))
    assert [len(tried) for tried in units.values()] == [1]
    (group,) = units
    assert fastest(units[group], {unit.key: 1.0 for unit in units[group]}) == "float"
