"""LiteRT.js: keeps the contract in Chromium, answers as LiteRT does, and says what is missing."""

from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.cost_models.runtimes import available, litert_web, open_runtime
from vitpareto.cost_models.tables.anchors import ANCHORS, SMALL
from vitpareto.cost_models.units.unit import Unit
from vitpareto.cost_models.web import packages
from vitpareto.spaces.errors import CostError, MissingRuntimeError

from ...shared import needs_device, needs_runtime
from .web_laws import WebLaws

pytestmark = pytest.mark.onnx
BROWSER = Device.load("browser-litert")


class TestLiteRtJs(WebLaws):
    device = BROWSER


def test_sub_blocks_answer_as_in_litert_and_are_timed() -> None:
    """The same files, in kernels of the same names; larger ones take more time."""
    needs_device(BROWSER.name)
    needs_runtime("litert")
    bench, spec = Bench(BROWSER), find_runtime(BROWSER.runtime)
    graphs = [bench.unit(Unit(block, "float")) for block in (ANCHORS[2], SMALL[0])]
    graphs.append(bench.unit(Unit(ANCHORS[2], "dynamic8")))
    native, page = open_runtime(Device.load("cpu-litert")), open_runtime(BROWSER)
    for graph, most in zip(graphs, (1e-5, 1e-5, 0.05), strict=True):
        x = np.random.default_rng(0).standard_normal(graph.shape).astype(np.float32)
        there, here = page.compile(graph.model), native.compile(graph.model)
        wanted = here.run(x)
        assert np.abs(there.run(x) - wanted).max() <= most * np.abs(wanted).max()
        plain = {name.removeprefix("plain "): n for name, n in here.kernels().items()}
        assert there.kernels() == plain
        assert (spec.integers(there.kernels()) > 0) == (graph is graphs[2])
    large, small, integers = bench.time(graphs, rounds=3)
    assert large.median_ms > small.median_ms > 0 < integers.median_ms
    assert 0.01 < bench.footprint(graphs[0]).growth_mb < 100


def test_what_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of npm or one that it needs, an untested one, what writes files, the browser."""
    monkeypatch.setenv(packages.FOLDER, str(tmp_path))
    missing = (
        "device 'browser-litert' needs litert-web, which is not installed: "
        "npm install '@litertjs/core@2.5.3'"
    )
    assert available(BROWSER) == missing
    core, utils = tmp_path / packages.LITERT, tmp_path / packages.LITERT_UTILS
    for folder in (core, utils):
        assert available(BROWSER) == missing
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"version": "2.5.3"}')
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CHROME_PATH", str(program))
    monkeypatch.setattr(litert_web, "find_spec", lambda name: None)
    assert available(BROWSER) == (
        "device 'browser-litert' needs ai-edge-litert, which writes the files of LiteRT.js and is "
        "not installed: pip install 'vitpareto[litert]'"
    )
    monkeypatch.setenv("CHROME_PATH", str(tmp_path / "none"))
    assert available(BROWSER) == (
        f"device 'browser-litert': Chromium or Chrome is needed, and {tmp_path / 'none'} is not on "
        "the PATH: install it, or name the program in CHROME_PATH"
    )
    (core / "package.json").write_text('{"version": "2.4.0"}')
    assert available(BROWSER) == (
        "device 'browser-litert': @litertjs/core 2.4.0 is untested, 2.5 to 2.5 are tested: "
        "npm install '@litertjs/core@2.5.3'"
    )
    with pytest.raises(MissingRuntimeError, match=r"LiteRT\.js runs in chromium, not in 'node'"):
        litert_web.open_runtime(Device("x", "litert-web", "node", 1, ("float",)))


def test_a_package_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says is in the message, at once."""
    needs_device(BROWSER.name)
    for name in (packages.LITERT, packages.LITERT_UTILS):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "package.json").write_text('{"version": "2.5.3"}')
    monkeypatch.setenv(packages.FOLDER, str(tmp_path))
    with pytest.raises(CostError, match=r"does not run LiteRT\.js: .*fetch.*/litert\.js"):
        open_runtime(BROWSER).compile(b"")
