"""Runtimes: each keeps the contract, is known without its library, and may be a plugin's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.calibration.bundle import write_bundle
from vitpareto.cost_models.coreml.conversion import tools
from vitpareto.cost_models.runtime_spec import RUNTIMES, find_runtime
from vitpareto.cost_models.runtimes import available, open_runtime
from vitpareto.cost_models.runtimes.contract import RuntimeContract
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import (
    ConfigError,
    CostError,
    MissingRuntimeError,
    UnknownNameError,
)

from ...shared import needs_runtime

pytestmark = pytest.mark.onnx
ROOT = Path(__file__).parents[3]


class TestOnnxRuntime(RuntimeContract):
    device = Device("here", "onnxruntime", "CPUExecutionProvider", 1, ("float",))


class TestOnnxRuntimeOnTwoCores(RuntimeContract):
    device = Device("here", "onnxruntime", "CPUExecutionProvider", 2, ("float",))


class TestTorch(RuntimeContract):
    device = Device("here", "torch", "cpu", 1, ("float",))


class TestOpenVino(RuntimeContract):
    device = Device("here", "openvino", "CPU", 1, ("float",))

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("openvino")


class TestLiteRt(RuntimeContract):
    device = Device("here", "litert", "CPU", 1, ("float",))

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("litert")


class TestLiteRtOnTwoCores(TestLiteRt):
    device = Device("here", "litert", "CPU", 2, ("float",))


class TestNcnn(RuntimeContract):
    device = Device("here", "ncnn", "CPU", 1, ("float",))

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("ncnn")


class TestNcnnOnTwoCores(TestNcnn):
    device = Device("here", "ncnn", "CPU", 2, ("float",))


class TestExecuTorch(RuntimeContract):
    device = Device("here", "executorch", "CPU", 1, ("float",))

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("executorch")


class TestExecuTorchOnTwoCores(TestExecuTorch):
    device = Device("here", "executorch", "CPU", 2, ("float",))


class TestMnn(RuntimeContract):
    device = Device("here", "mnn", "CPU", 1, ("float",))

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("mnn")


class TestCoreMl(RuntimeContract):
    device = Device("here", "coreml", "ALL", 1, ("float",))

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("coreml")


class TestQnn(RuntimeContract):
    device = Device("here", "qnn", "sm8650", 1, ("float",))

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("qnn")


def test_what_is_stated_of_each() -> None:
    formats = {name: find_runtime(name).format for name in list(RUNTIMES)[:9]}
    assert formats == {
        "onnxruntime": "onnx",
        "openvino": "onnx",
        "litert": "tflite",
        "ncnn": "ncnn",
        "executorch": "executorch",
        "mnn": "mnn",
        "coreml": "coreml",
        "qnn": "qnn",
        "torch": "torchscript",
    }
    ort, openvino = find_runtime("onnxruntime"), find_runtime("openvino")
    assert ort.integers({"QGemm": 2, "MatMul": 3, "ConvInteger": 1}) == 3
    assert openvino.integers({"FullyConnected:u8": 2, "FullyConnected:f32": 1}) == 2
    assert openvino.rounds({"FullyConnected:bf16": 1}) and not openvino.rounds({"Add:f32": 1})
    clocks = {name: Device.load(name).clock for name in ("cpu-1t", "cpu-2t", "cpu-openvino")}
    assert clocks == {"cpu-1t": "thread", "cpu-2t": "wall", "cpu-openvino": "wall"}
    assert Device.load("cuda").clock == "wall" and Device.load("torch-1t").clock == "thread"
    assert Device.load("cuda").chip == Device.load("tensorrt").chip == "nvidia"


def test_unknown_runtimes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"runtime: no such value 'onnxruntim'.*'onnxruntime'"):
        Device.from_dict({"name": "x", "runtime": "onnxruntim"})
    with pytest.raises(UnknownNameError, match="unknown runtime 'tvm'"):
        find_runtime("tvm")


def test_recipes_that_a_runtime_cannot_hold(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{runtime: litert, provider: CPU, threads: 1, recipes: [float, static8]}")
    message = r"mine\.yaml: recipes: no such value of litert 'static8'\. Known: dynamic4, dynamic8"
    with pytest.raises(ConfigError, match=message):
        Device.load(file)


def test_untested_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line that names the tested ones; corrections of a release count as tested."""
    versions = {"ai-edge-litert": "2.3.7"}
    monkeypatch.setattr("vitpareto.cost_models.runtime_spec.metadata.version", versions.__getitem__)
    spec = find_runtime("litert")
    assert spec.untested == ""
    for version in ("2.4.0", "2.4rc1", "1.4.0", "3.0"):
        versions["ai-edge-litert"] = version
        message = (
            f"device 'cpu-litert': ai-edge-litert {version} is untested, 2.1 to 2.3 are tested: "
            "pip install 'vitpareto[litert]'"
        )
        with pytest.raises(MissingRuntimeError) as caught:
            open_runtime(Device.load("cpu-litert"))
        assert str(caught.value) == message == available(Device.load("cpu-litert"))


def test_what_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As coremltools beside an ExecuTorch without what its exporter needs."""
    monkeypatch.setitem(sys.modules, "coremltools", None)
    words = "^coremltools cannot be loaded with what is installed beside it: import of coremltools"
    with pytest.raises(MissingRuntimeError, match=words):
        tools()


def test_a_bundle_is_of_a_runtime_that_stands_alone(tmp_path: Path) -> None:
    words = r"is written for onnxruntime, .*, ncnn, mnn, executorch; device 'torch-1t' has torch"
    with pytest.raises(CostError, match=words):
        write_bundle(Device.load("torch-1t"), SearchSpace.from_yaml("digits"), tmp_path)
    assert not list(tmp_path.iterdir())


def python(code: str, *paths: Path) -> str:
    """Standard output of a program that finds plugins in some folders."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "VITPARETO_NODE_MODULES": "nowhere",
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_devices_are_known_without_their_libraries() -> None:
    code = """
import json, sys
gone = "onnxruntime openvino ai_edge_litert ncnn executorch MNN onnx torch"
for name in gone.split():
    sys.modules[name] = None
from vitpareto.cost_models import Device
from vitpareto.cost_models.device import presets
from vitpareto.cost_models.measure.capabilities import devices
from vitpareto.cost_models.units.precision_recipes import kernel_recipe
identities = {name: Device.load(name).identity()["version"] for name in presets()}
assert kernel_recipe("stored8", "onnxruntime") == "float"
assert kernel_recipe("stored8", "openvino") == "stored8" == kernel_recipe("stored8", "unheard of")
print(json.dumps([identities, {d["name"]: d["reason"] for d in devices()}]))
"""
    identities, reasons = json.loads(python(code))
    assert identities["cpu-1t"] == find_runtime("onnxruntime").version
    assert reasons["cpu-openvino"] == (
        "device 'cpu-openvino' needs openvino, which is not installed: "
        "pip install 'vitpareto[openvino]'"
    )
    assert all("not installed" in reason for reason in reasons.values())


def test_a_runtime_of_a_plugin(tmp_path: Path) -> None:
    """One file and one line: its device loads, compiles, and is timed in a process of its own."""
    about = tmp_path / "vitpareto_example-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vitpareto-example\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[vitpareto.runtimes]\nplain_ort = vitpareto_example.plain_ort:SPEC\n"
    )
    (tmp_path / "plain.yaml").write_text(
        "runtime: plain_ort\nprovider: CPUExecutionProvider\nthreads: 1\n"
        "recipes: [float, dynamic8, stored8]\n"
    )
    code = f"""
import json
from dataclasses import replace
from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtimes import available, open_runtime
from vitpareto.cost_models.runtimes.contract import RuntimeContract
from vitpareto.cost_models.units.precision_recipes import kernel_recipe
from vitpareto.cost_models.units.unit import Unit
from vitpareto.cost_models.tables.anchors import SMALL

device = Device.load({str(tmp_path / "plain.yaml")!r})
contract = RuntimeContract()
contract.device = replace(device)
laws = [name for name in dir(contract) if name.startswith("test_")]
for law in laws:
    getattr(contract, law)()
bench = Bench(device)
rows = bench.time([bench.unit(Unit(SMALL[0], name)) for name in ("float", "dynamic8")], rounds=3)
growth = bench.footprint(bench.unit(Unit(SMALL[0], "float"))).growth_mb
print(json.dumps([len(laws), [row.median_ms for row in rows], growth, device.clock,
                  kernel_recipe("stored8", device.runtime), device.identity()["runtime"]]))
"""
    laws, times, growth_mb, clock, kernel, runtime = json.loads(
        python(code, tmp_path, ROOT / "tests" / "plugin")
    )
    assert laws > 5 and len(times) == 2 and min(times) > 0 and growth_mb > 0
    assert (clock, kernel, runtime) == ("thread", "float", "plain_ort")
