"""Energy: counters are read as they are, what they tell is fitted, and nothing is invented."""

from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import CostModel, Device, LatencyTable
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.measure.footprint import footprint_here
from vitpareto.cost_models.predict.energy import LEAST, fit_energy
from vitpareto.cost_models.standalone import energy_meter as meter
from vitpareto.cost_models.standalone import runner
from vitpareto.cost_models.standalone.energy_meter import (
    IDLE_S,
    NVIDIA,
    PROCESSOR,
    RUN_S,
    Meter,
    energy_mj,
    find_meter,
)
from vitpareto.cost_models.tables.latency_table import with_footprints
from vitpareto.search.cli.text import device_lines, prediction_lines
from vitpareto.search.config import load_config
from vitpareto.search.run.opening import open_run, require_energy
from vitpareto.search.scoring.predicted_costs import ENERGIES, CostPredictor
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError

IDLE_W, BUSY_W, RUN_MS = 10.0, 30.0, 2.0
END_UJ = 25_000_000


class Machine:
    """Counters of a powercap tree that a clock moves on: 10 W idle, 30 W at work."""

    def __init__(self, root: Path) -> None:
        self.root, self.now, self.joules = root, 0.0, 20.0
        zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram",
                 "intel-rapl:1": "psys", "intel-rapl-mmio:0": "package-0"}  # fmt: skip
        for zone, name in zones.items():
            (root / zone).mkdir(parents=True)
            (root / zone / "name").write_text(f"{name}\n")
            (root / zone / "max_energy_range_uj").write_text(f"{END_UJ}\n")
        self.spend(0.0, 0.0)

    def spend(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.joules += seconds * watts
        for zone in self.root.iterdir():
            share = {"intel-rapl:0": 0.75, "intel-rapl:0:1": 0.25}.get(zone.name, 5.0)
            (zone / "energy_uj").write_text(f"{round(share * self.joules * 1e6) % END_UJ}\n")

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, IDLE_W)

    def run(self) -> None:
        self.spend(RUN_MS / 1e3, BUSY_W)


def test_the_energy_of_a_run_is_what_it_adds_to_idling(tmp_path: Path) -> None:
    """Packages and memory count, their other zones do not, and counters begin anew."""
    machine = Machine(tmp_path)
    found, why = find_meter(PROCESSOR, tmp_path)
    assert found is not None and not why
    assert found.source == "RAPL package-0, dram"
    measured = energy_mj(machine.run, found, lambda: machine.now, machine.sleep)
    assert measured == pytest.approx((BUSY_W - IDLE_W) * RUN_MS, rel=1e-3)
    assert machine.now == pytest.approx(2 * IDLE_S + RUN_S, rel=0.01)
    assert machine.joules * 0.75e6 > END_UJ
    lazy = energy_mj(lambda: machine.sleep(0.01), found, lambda: machine.now, machine.sleep)
    assert lazy == pytest.approx(0.0, abs=1e-3)


def test_why_there_is_no_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none, why = find_meter(PROCESSOR, tmp_path)
    assert none is None and why == f"this machine shows no counter of energy in {tmp_path}"
    none, why = find_meter("QNNExecutionProvider", tmp_path)
    assert none is None and why == "no counter of energy is known for QNNExecutionProvider"
    Machine(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("none\n")
    none, why = find_meter(PROCESSOR, tmp_path)
    assert none is None and why.startswith("the counters of energy cannot be read: invalid lit")

    def refuse(file: Path) -> str:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(meter, "_text", refuse)
    none, why = find_meter(PROCESSOR, tmp_path)
    assert none is None and why.startswith("only root may read ") and "(sudo chmod a+r " in why


@pytest.mark.parametrize("chip", [PROCESSOR, NVIDIA])
def test_this_machine_has_a_counter_or_says_why_not(chip: str) -> None:
    found, why = find_meter(chip)
    assert (found is None) == bool(why)
    if found is not None:
        before = found.read()
        assert 0 <= found.since(before) < 1e3


def test_a_footprint_holds_energy_where_a_counter_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, device = SearchSpace.from_yaml("digits"), Device.load("cpu-1t")
    graph = Bench(device).network(Candidate.uncompressed(space.smallest().architecture), ["float"])
    (tmp_path / "model.onnx").write_bytes(graph.model)
    readings = iter([0.0, 1.0, 1.0, 50.0, 50.0, 51.0])  # joules: idle, at work, idle
    counter = Meter("list", lambda: (next(readings),), (1e9,))
    monkeypatch.setattr(runner, "find_meter", lambda chip: (counter, ""))
    found = footprint_here(device, str(tmp_path / "model.onnx"))
    assert 0 < found.energy_mj < 1e3
    monkeypatch.setattr(runner, "find_meter", lambda chip: (None, "none"))
    assert footprint_here(device, str(tmp_path / "model.onnx")).energy_mj == 0


def law(latency_ms: np.ndarray, loaded_mb: np.ndarray) -> np.ndarray:
    return 12.0 * latency_ms + 0.5 * loaded_mb


def test_energy_follows_latency_and_weights() -> None:
    rng = np.random.default_rng(0)
    latency, loaded = rng.uniform(0.1, 3, 300), rng.uniform(0.1, 20, 300)
    actual = law(latency, loaded) * np.exp(rng.normal(0, 0.05, 300))
    model = fit_energy(latency[:30], loaded[:30], actual[:30], 0.9)
    assert model is not None
    assert model.watts == pytest.approx(12, rel=0.1) and model.networks == 30
    errors = np.abs(np.log(actual[30:] / model.predict(latency[30:], loaded[30:])))
    assert 0.8 < (errors <= model.half_width).mean() < 0.99
    assert fit_energy(latency[: LEAST - 1], loaded[: LEAST - 1], actual[: LEAST - 1], 0.9) is None


@pytest.fixture
def metered(table: LatencyTable) -> LatencyTable:
    """The table with the energy of its networks: 20 W while they run."""
    models = list(table.of_kind("model"))
    found = {row.key: (0.0, 20.0 * row.median_ms) for row in models}
    others = [row for row in table.rows if row.kind != "model"]
    return LatencyTable(table.identity, [*others, *with_footprints(models, found)])


def test_a_cost_model_predicts_energy_where_it_was_measured(
    metered: LatencyTable, fitted: CostModel, recipes, space: SearchSpace, tmp_path: Path
) -> None:
    candidates = space.sample(20, 77)
    CostModel.fit(metered, recipes).save(tmp_path / "m.json")
    model = CostModel.load(tmp_path / "m.json")
    found = model.predict(candidates)
    assert found.energy_mj == pytest.approx(20 * found.latency_ms, rel=0.05)
    assert found.energy_low_mj is not None and found.energy_high_mj is not None
    assert (found.energy_low_mj < found.energy_mj).all()  # type: ignore[operator]
    assert (found.energy_mj < found.energy_high_mj).all()  # type: ignore[operator]
    block, recipe, ms = model.sub_blocks(candidates[0])[1]
    parts = model.block_mj(block, recipe)
    assert parts is not None and parts[0] == pytest.approx(20 * ms, rel=0.05)
    assert parts[1] < parts[0] < parts[2]
    (line,) = prediction_lines([{"key": "k", **found.row(0)}])[1:]
    assert f"{found.row(0)['energy_mj']:.3g}" in line
    assert fitted.to_dict()["energy"] is None
    assert fitted.predict(candidates).energy_mj is None
    assert fitted.block_mj(block, recipe) is None
    assert not set(ENERGIES) & fitted.predict(candidates).row(0).keys()
    assert not set(ENERGIES) & CostPredictor(fitted)(candidates[0]).keys()
    assert CostPredictor(model)(candidates[0])["energy_mj"] == found.row(0)["energy_mj"]


@pytest.mark.parametrize("override", ["search.objectives=[accuracy, energy_mj]",
                                      "search.limits={energy_mj: 3}"])  # fmt: skip
def test_a_search_for_energy_needs_a_counter(
    fitted: CostModel, metered: LatencyTable, recipes, tmp_path: Path, override: str
) -> None:
    config = load_config("digits", [override])
    require_energy(config, CostModel.fit(metered, recipes))
    with pytest.raises(CostError, match="the cost model says nothing of energy_mj: fewer than 4"):
        require_energy(config, fitted)
    if find_meter(PROCESSOR)[0] is None:
        with pytest.raises(CostError, match="nothing here can measure energy_mj: "):
            open_run(config, tmp_path / "run", resume=False)
        assert not (tmp_path / "run").exists()


def test_devices_say_what_counts() -> None:
    common = {"available": True, "threads": 1, "runtime": "x", "version": "1", "provider": "p"}
    lines = device_lines(
        [
            {"name": "a", "meter": "RAPL package-0", "meter_reason": "", **common},
            {"name": "b", "meter": "RAPL package-0", "meter_reason": "", **common},
            {"name": "c", "meter": "", "meter_reason": "none is known", **common},
        ],
        {},
        {},
    )
    assert lines[-2:] == [
        "energy of a, b: RAPL package-0", "energy of c: not measured, none is known"
    ]  # fmt: skip
