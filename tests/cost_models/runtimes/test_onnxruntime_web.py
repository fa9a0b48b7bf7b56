"""onnxruntime-web: keeps the contract in Node.js, is timed there, and says what is missing."""

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.cost_models.runtimes import available, open_runtime, web
from vitpareto.cost_models.runtimes.contract import RuntimeContract
from vitpareto.cost_models.standalone.timing import ONE_BY_ONE
from vitpareto.cost_models.tables.anchors import ANCHORS, SMALL
from vitpareto.cost_models.units.unit import Unit
from vitpareto.cost_models.web import host, packages
from vitpareto.spaces.errors import CostError, MissingRuntimeError

from ...shared import needs_device
from .web_laws import WebLaws

pytestmark = pytest.mark.onnx
NODE = Device.load("node")


@pytest.fixture
def node() -> Device:
    needs_device(NODE.name)
    return NODE


class TestNode(WebLaws):
    device = NODE


class TestNodeOnTwoThreads(RuntimeContract):
    device = replace(NODE, threads=2)

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_device(NODE.name)


class TestChromium(WebLaws):
    device = Device.load("browser")


def test_sub_blocks_are_timed_in_both_ways(node: Device) -> None:
    """Each way gives every sub-block a row, larger ones more time; int8 really multiplies int8."""
    bench = Bench(node)
    graphs = [bench.unit(Unit(block, "float")) for block in (ANCHORS[2], SMALL[0])]
    graphs.append(bench.unit(Unit(ANCHORS[2], "dynamic8")))
    for way in ("in turn", ONE_BY_ONE):
        large, small, integers = bench.time(graphs, rounds=3, way=way)
        assert large.median_ms > 3 * small.median_ms > 0 < integers.median_ms
        assert large.anchor_ms > large.small_anchor_ms > 0
    kernels = open_runtime(node).compile(graphs[2].model).kernels()
    assert find_runtime(node.runtime).integers(kernels) >= 4
    assert 0.1 < bench.footprint(graphs[0]).growth_mb < 100
    assert bench.footprint(graphs[0]).energy_mj == 0


def test_a_process_that_dies_is_said_and_begun_again(node: Device) -> None:
    runtime = open_runtime(node)
    compiled = runtime.compile(Bench(node).unit(Unit(SMALL[0], "float")).model)
    x = np.zeros(compiled.input_shape, np.float32)
    wanted = compiled.run(x)
    os.kill(compiled._host._process.pid, signal.SIGKILL)  # others may live beside it
    with pytest.raises(CostError, match=r"node \d+\.\d+\.\d+ ended: exit status -9"):
        compiled.run(x)
    again = runtime.compile(Bench(node).unit(Unit(SMALL[0], "float")).model)
    assert (again.run(x) == wanted).all()


def test_a_job_that_hangs_is_given_up(node: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "JOB_S", -1.0)
    monkeypatch.setattr(host, "LOOK_S", 0.01)
    message = r"^node [\d.]+ does not run onnxruntime-web: node [\d.]+ gave no answer in -1 s$"
    with pytest.raises(CostError, match=message):
        open_runtime(replace(node, threads=3)).compile(b"")


def test_a_package_that_is_damaged(
    node: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the program says is in the message."""
    whole = packages.package(packages.ORT)
    broken = tmp_path / "onnxruntime-web" / "dist"
    broken.mkdir(parents=True)
    (broken.parent / "package.json").write_text((whole / "package.json").read_text())
    monkeypatch.setenv(packages.FOLDER, str(tmp_path))
    with pytest.raises(CostError, match=r"does not run onnxruntime-web: .*ended: .*ENOENT"):
        open_runtime(node).compile(b"")


def test_what_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, an untested one, the program, and a provider that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(packages.FOLDER, raising=False)
    assert available(NODE) == (
        "device 'node' needs onnxruntime-web, which is not installed: "
        "npm install 'onnxruntime-web@1.30.0'"
    )
    assert NODE.identity()["version"] == ""
    package = tmp_path / "node_modules" / "onnxruntime-web" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "1.9.0"}')
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert NODE.identity()["version"] == "1.9.0"
    assert available(NODE) == (
        "device 'node': onnxruntime-web 1.9.0 is untested, 1.27 to 1.30 are tested: "
        "npm install 'onnxruntime-web@1.30.0'"
    )
    package.write_text('{"version": "1.30.0"}')
    monkeypatch.setenv("NODE_BINARY", str(tmp_path / "none"))
    assert available(NODE) == (
        f"device 'node': Node.js 18 or later is needed, and {tmp_path / 'none'} is not on the "
        "PATH: install it, or name the program in NODE_BINARY"
    )
    assert NODE.identity()["host"] == ""
    with pytest.raises(MissingRuntimeError, match="runs in chromium or node, not in 'firefox'"):
        open_runtime(Device("x", "onnxruntime-web", "firefox", 1, ("float",)))


def test_the_package_can_be_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(packages.FOLDER, str(tmp_path))
    assert packages.package_version(packages.ORT) == ""
    (tmp_path / "onnxruntime-web").mkdir()
    (tmp_path / "onnxruntime-web" / "package.json").write_text('{"version": "1.30.1"}')
    assert packages.package_version(packages.ORT) == "1.30.1"
    assert packages.package(packages.ORT) == tmp_path / "onnxruntime-web"


WEBGPU = replace(Device.load("browser"), options=(("provider", "webgpu"),))


def test_a_browser_without_a_gpu_is_refused() -> None:
    """In one line, before anything is made for it; the same browser still has WebAssembly."""
    needs_device("browser")
    if not (missing := available(WEBGPU)):
        pytest.skip("the browser has a GPU")
    words = (
        r"device 'browser': \w+ [\d.]+ does not run onnxruntime-web: it has no adapter for WebGPU"
    )
    assert re.match(words, missing)
    with pytest.raises(MissingRuntimeError, match="it has no adapter for WebGPU"):
        Bench(WEBGPU)


class TestWebGpu(RuntimeContract):
    device = WEBGPU

    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        needs_device("browser")
        monkeypatch.setattr(web, "SOFTWARE", True)
        if missing := available(WEBGPU):
            pytest.skip(missing)
