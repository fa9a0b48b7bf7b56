"""One search for several devices: this machine, perhaps in two runtimes, and a phone elsewhere."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from vitpareto.cost_models import CostModel
from vitpareto.search.config import load_config
from vitpareto.search.delivery.manifest import manifests
from vitpareto.search.run.results import load_run
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.search.watch.page import sections
from vitpareto.spaces import Candidate
from vitpareto.spaces.errors import RunError, UnknownNameError

from ..shared import made_once, needs_runtime
from .conftest import invoke, search_once

pytestmark = pytest.mark.onnx

HERE, OTHER, PHONE = "cpu-1t", "cpu-openvino", "pixel8"
DEVICES = (HERE, PHONE)
WORDS = f"predicted for {PHONE}, not verified on it"


@pytest.fixture(scope="session")
def devices_file(finished: Path, run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of seconds for two devices; a phone is named by its cost model alone."""

    def make(folder: Path) -> None:
        shutil.copy(finished / "cost_model.json", folder / "here.json")
        model = CostModel.load(folder / "here.json")
        model.identity = {**model.identity, "processor": "Tensor G3", "system": "Linux aarch64"}
        model.save(folder / f"{PHONE}.json")
        run = yaml.safe_load(run_file.read_text())
        run["device"] = [{"name": HERE, "cost_model": "here.json"}, f"{PHONE}.json"]
        run["search"]["limits"] = {"latency_ms": 100, f"latency_ms@{PHONE}": 50}
        (folder / "devices.yaml").write_text(yaml.safe_dump(run))

    return made_once(tmp_path_factory, "devices", make) / "devices.yaml"


@pytest.fixture(scope="session")
def crossed(devices_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its run folder; copy it before changing anything in it."""
    return search_once(tmp_path_factory, "crossed", devices_file)


@pytest.mark.slow
def test_each_device_has_its_own_files_and_all_share_the_rest(crossed: Path) -> None:
    assert not any((crossed / name).exists() for name in ("pareto", "cost_model.json"))
    assert {path.name for path in (crossed / "devices").iterdir()} == set(DEVICES)
    finalists = json.loads((crossed / "finalists.json").read_text())["chosen"]
    for name in DEVICES:
        delivered = manifests(crossed / "devices" / name / "pareto")
        known = {finalist for m in delivered for finalist in m.finalists}
        assert known == {row["key"] for row in finalists}  # each for every device
        for m in delivered:
            assert m.device.name == name and (m.metrics is None) == (name == PHONE)
            assert m.limits == {"latency_ms": 50 if name == PHONE else 100}
            assert m.test  # which was read once
            assert m.elsewhere and set(m.elsewhere) == set(DEVICES) - {name}
            assert all(costs["latency_ms"] > 0 for costs in m.elsewhere.values())
    assert len(json.loads((crossed / "test_readings.json").read_text())) == 1


@pytest.mark.slow
def test_every_candidate_is_priced_on_every_device(crossed: Path) -> None:
    lines = (crossed / "evaluations.jsonl").read_text().splitlines()
    model = CostModel.load(crossed / "devices" / PHONE / "cost_model.json")
    run = load_run(crossed)
    for line, row in zip(lines, run.evaluations(), strict=True):
        metrics = json.loads(line)["metrics"]
        assert "latency_ms" not in metrics and metrics["macs"] > 0
        assert all(metrics[f"size_mb@{name}"] > 0 for name in DEVICES)
        assert metrics.items() >= {k: row[k] for k in metrics if "@" in k}.items()
    rows = run.on(PHONE).evaluations()
    candidates = [json.loads(line) for line in lines]
    assert "latency_ms@cpu-1t" not in rows[0]
    read = [Candidate.from_dict(one["candidate"]) for one in candidates]
    expected = model.predict(read).latency_ms
    assert [row["latency_ms"] for row in rows] == pytest.approx(expected.tolist())


@pytest.mark.slow
def test_results_of_each_device_and_of_all(crossed: Path) -> None:
    run = load_run(crossed)
    rows = run.results()
    assert run.devices == list(DEVICES) and {row["device"] for row in rows} == set(DEVICES)
    assert all((row["state"] == WORDS) == (row["device"] == PHONE) for row in rows)
    assert all(Path(row["artifact"]).is_file() for row in rows)
    assert run.on(PHONE).best(latency_ms=50).state == WORDS
    with pytest.raises(RunError, match=r'that of \.on\("cpu-1t"\)'):
        run.best()
    with pytest.raises(UnknownNameError, match="Did you mean 'pixel8'"):
        run.on("pixel")
    found = run.crossing()
    assert found["one_for_all"] in found["models"] and set(found["excess"]) == set(DEVICES)
    for by_device in found["models"].values():
        assert set(by_device) == set(DEVICES)
        assert by_device[PHONE]["state"] == WORDS
    for name in DEVICES:
        models = [m[name] for m in found["models"].values()]
        chosen = {m["key"] for m in models if m["chosen"]}
        assert len(chosen) == 1 and any(m["on_front"] for m in models)
        assert found["excess"][name]["slower"] == pytest.approx(
            found["models"][found["one_for_all"]][name]["latency_ms"]
            / next(m["latency_ms"] for m in models if m["chosen"])
            - 1
        )
    pairs = {(f["chosen_for"], f["on"]): f for f in found["fronts"]}
    assert len(pairs) == len(DEVICES) * (len(DEVICES) - 1)
    same = pairs["cpu-1t", PHONE]  # whose cost model is this machine's under another name
    assert same["candidates"] == same["on_both"] and same["most_slower"] == 0


@pytest.mark.slow
def test_the_report_has_the_front_of_each_and_crosses_them(crossed: Path) -> None:
    page = (crossed / "report.html").read_text()
    for name in DEVICES:
        assert f"On {name}" in page and f'href="devices/{name}/report.html"' in page
        own = (crossed / "devices" / name / "report.html").read_text()
        assert f"crossed on {name}" in own and f"devices/{name}/pareto/" in own
        assert f" --device {name} --pick " in own
    assert "If all run the same model, it is" in page and "The front for one device" in page
    assert WORDS in page and (crossed / "pareto.png").stat().st_size > 10_000
    assert invoke("report", crossed, "--markdown").output.count("| model |") == len(DEVICES)
    assert (crossed / "report.html").read_text() == page
    live = sections(RunPaths(crossed))["sections"]
    assert all(
        f" on {name}" in live["models"] and f"On {name}" in live["scored"] for name in DEVICES
    )


@pytest.mark.slow
def test_commands_ask_which_device(crossed: Path, tmp_path: Path) -> None:
    for words in (
        ("export", crossed, "--out", tmp_path / "app"),
        ("export", crossed, "--kit", tmp_path / "kit"),
        ("ladder", crossed),
        ("targets", crossed),
    ):
        refused = str(invoke(*words).exception)
        assert f"which device? Name it: --device {' or '.join(DEVICES)}" in refused
    wrong = invoke("export", crossed, "--device", "cpu-2t", "--out", tmp_path / "app")
    assert "is for no such device 'cpu-2t'. Did you mean 'cpu-1t'?" in str(wrong.exception)
    made = invoke("export", crossed, "--device", PHONE, "--out", tmp_path / "app", "--json")
    assert json.loads(made.stdout)[0]["status"].startswith(WORDS)
    told = json.loads(invoke("verify", crossed, "--json").stdout)
    assert {row["device"] for row in told} == set(DEVICES)
    assert all(row.get("status", "").startswith(WORDS) == (row["device"] == PHONE) for row in told)


@pytest.mark.slow
def test_it_is_resumed_for_the_same_devices_alone(
    crossed: Path, devices_file: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(crossed, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.glob("devices/*/pareto/*/manifest.json")}
    words = ("search", devices_file, "--run-dir", run, "--resume")
    assert invoke(*words).exit_code in (0, 3)
    assert all(path.read_bytes() == content for path, content in before.items())
    refused = invoke(*words, "--set", "device=[cpu-1t, cpu-2t]", "--set", "search.limits={}")
    assert "cannot be resumed with another device" in str(refused.exception)
    # A model whose delivery for one device was cut short is delivered for that alone.
    one = next(iter(before)).parent
    shutil.rmtree(one)
    assert invoke(*words).exit_code in (0, 3)
    assert (one / "manifest.json").exists()
    others = [path for path in before if path.parents[2] != one.parents[1]]
    assert all(path.read_bytes() == before[path] for path in others)


def test_a_dry_run_names_all_devices(devices_file: Path, tmp_path: Path) -> None:
    config, paths = load_config(devices_file), RunPaths(tmp_path / "new")
    assert [paths.of(name).pareto.parent.name for name in config.by_device] == list(DEVICES)
    told = invoke("search", devices_file, "--run-dir", tmp_path / "new", "--dry-run").output
    assert all(f"device  {name}: " in told for name in DEVICES)
    missing = invoke(
        "search", devices_file, "--run-dir", tmp_path / "new", "--set", "device=[cpu-1t, tensorrt]"
    )
    assert "tensorrt" in str(missing.exception) or "TensorRT" in str(missing.exception)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_two_runtimes_of_this_machine(run_file: Path, tmp_path: Path) -> None:
    needs_runtime("openvino")
    devices = f"device=[{{name: {HERE}, calibrate_s: 3}}, {{name: {OTHER}, calibrate_s: 3}}]"
    result = invoke("search", run_file, "--run-dir", tmp_path / "run", "--set", devices)
    assert result.exit_code in (0, 3), result.output
    assert all(f"on {name}:" in result.output for name in (HERE, OTHER))
    stages = json.loads((tmp_path / "run" / "stages.json").read_text())
    assert {f"mape@{HERE}", f"mape@{OTHER}"} <= set(stages["calibration"])
    for name, runtime in ((HERE, "onnxruntime"), (OTHER, "openvino")):
        own = tmp_path / "run" / "devices" / name
        assert CostModel.load(own / "cost_model.json").identity["runtime"] == runtime
        assert (own / "shortlist.json").exists() and (own / "reference.json").exists()
        for m in manifests(own / "pareto"):
            assert m.device.runtime == runtime and m.measured().latency_ms > 0
    fronts = load_run(tmp_path / "run").crossing()["fronts"]
    assert {(f["chosen_for"], f["on"]) for f in fronts} == {(HERE, OTHER), (OTHER, HERE)}
