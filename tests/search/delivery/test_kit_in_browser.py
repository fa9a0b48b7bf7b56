"""The kit of a browser: a page measures it, and what it says becomes the results of the kit."""

import base64
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.calibration.bundle import collect, sets_in
from vitpareto.cost_models.runtimes.web import GPU, QUIET
from vitpareto.cost_models.standalone import browser
from vitpareto.cost_models.standalone.kit_files import KIT, KIT_FORMAT, MEASURED, MEASURED_FORMAT
from vitpareto.cost_models.standalone.seal import (
    SealError,
    hashes_of,
    read_sealed,
    sha256,
    write_sealed,
)
from vitpareto.cost_models.web import packages
from vitpareto.search.delivery import kit as kits
from vitpareto.search.delivery.kit_results import folder_of, verify_measured
from vitpareto.search.delivery.manifest import manifests, write_manifest
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import MissingRuntimeError, RunError

from ...shared import needs_device
from ..chromium import CHROMIUM, needs_chromium
from ..made import SPACE, Made

pytestmark = pytest.mark.onnx
LATE_S = 240  # after which a page has hung
MACHINE = {"host": "Chrome 140.0.1", "processor": "Pixel 8", "cores": 8, "system": "Android 15"}
DEVICE = {"name": "phone", "runtime": "onnxruntime-web", "threads": 1, "recipes": ["float"]}


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A kit of one model, as far as its results need it."""
    (tmp_path / "models" / "000").mkdir(parents=True)
    plan = {"graphs": [{"key": "k"}, {"key": "a"}, {"key": "b"}], "anchors": 2, "footprints": 1}
    (tmp_path / "models" / "000" / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "page.json").write_text('{"version": "1.30.0"}')
    np.save(tmp_path / "expected.npy", np.eye(4, dtype=np.float32))
    names = ["models/000/plan.json", "page.json", "expected.npy"]
    about = {"set": "models/000", "index": 0, "expected": "expected.npy"}
    body = {"format": KIT_FORMAT, "version": 1, "device": DEVICE, "models": {"k": about}}
    write_sealed(tmp_path / KIT, body | {"files": hashes_of(tmp_path, names)})
    return tmp_path


def said(kit: Path) -> dict[str, Any]:
    """What a page says that measured it."""
    one = {
        "live": [2, 0],
        "samples_ms": [[1.0, 2.0], [1.0, 4.0], [1.0, 3.0]],
        "stable": [True, False],
        "refused": {"1": "no kernel of Foo"},
        "memory_mb": [2.5],
        "unix_time": 1,
    }
    answers = {"shape": [3, 4], "float32": base64.b64encode(np.eye(3, 4, dtype="f4")).decode()}
    return {
        **{"format": "vitpareto browser", "version": 1, "machine": MACHINE, "done": True},
        "kit": json.loads((kit / KIT).read_text())["digest"],
        "sets": {"models/000": one},
        "models": {"k": {"answers": answers, "kernels": {"Gemm": 2}}},
    }


def test_what_a_page_says_becomes_results(kit: Path) -> None:
    (kit / "browser.json").write_text(json.dumps(said(kit)))
    browser.read_saved(kit, kit / "browser.json")
    measured = read_sealed(kit / MEASURED, MEASURED_FORMAT)
    own = {"runtime": "onnxruntime-web", "threads": 1, "version": "1.30.0", "isa": ""}
    assert measured["identity"] == own | MACHINE
    model = measured["models"]["k"]
    assert (model["latency_ms"], model["peak_memory_mb"], model["same_class"]) == (3.0, 2.5, 1.0)
    assert model["kernels"] == {"Gemm": 2} and model["largest_difference"] == 0
    result = json.loads((kit / "models/000/result.json").read_text())
    first, second, third = result["sessions"][0]["graphs"]
    assert (first["median_ms"], first["stable"], third["stable"]) == (3.0, False, True)
    assert second == {"refused": "no kernel of Foo"} and first["anchors_ms"] == [1.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kit": "0"}, r"browser\.json: was measured with another kit"),
        ({"format": "x"}, r"browser\.json: not a vitpareto browser of version 1"),
        ({"sets": {"models/000": {}}}, r"browser\.json: is not what the page says: KeyError"),
        ({"sets": {"../x": {}}}, r"browser\.json: is not what the page says: '\.\./x' is no set"),
        ({"models": {"k": {"answers": 1}}}, r"browser\.json: is not what the page says"),
    ],
)
def test_whatever_does_not_fit_is_one_line(kit: Path, changes: dict[str, Any], words: str) -> None:
    before = sorted(kit.rglob("*"))
    with pytest.raises(SealError, match=words) as caught:
        browser.read_browser(kit, said(kit) | changes)
    assert "\n" not in str(caught.value) and sorted(kit.rglob("*")) == before


def test_an_edited_kit_is_not_measured(kit: Path) -> None:
    (kit / "page.json").write_text("{}")
    with pytest.raises(SealError, match=r"page\.json: was edited"):
        browser.read_browser(kit, said(kit))


def test_a_kit_without_the_runtime_of_the_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(packages.FOLDER, str(tmp_path))
    words = "a kit for 'browser' brings onnxruntime-web, which is not installed: npm install 'onnx"
    with pytest.raises(MissingRuntimeError, match=words):
        kits.check_page(Device.load("browser"))


def test_what_was_saved_is_taken_where_it_lies_in_the_kit(kit: Path, tmp_path: Path) -> None:
    saved = kit / "browser (1).json"
    saved.write_text(json.dumps(said(kit)))
    assert folder_of(saved) == kit == folder_of(kit) and (kit / MEASURED).is_file()
    saved.write_text(json.dumps(said(kit) | {"kit": "0"}))
    before = (kit / MEASURED).read_bytes()
    with pytest.raises(RunError, match=r"browser\.json: was measured with another kit"):
        folder_of(saved)
    assert (kit / MEASURED).read_bytes() == before
    alone = tmp_path / "downloads" / "browser.json"
    alone.parent.mkdir()
    alone.write_text("{}")
    with pytest.raises(RunError, match=r"downloads/kit\.json: cannot be read"):
        folder_of(alone)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("name", ["browser", "browser-litert"])
def test_from_predicted_to_verified(made: Made, tmp_path: Path, name: str) -> None:
    needs_device(name)
    run, kit = delivered_and_packed(made, tmp_path, name, sub_blocks=4)
    text = (kit / "README.txt").read_text()
    assert "env/bin/python page.py" in text and "run.py" not in text

    measured_with_its_program(kit, tmp_path / "profile")
    measured = read_sealed(kit / MEASURED, MEASURED_FORMAT)
    assert measured["identity"]["host"] and measured["identity"]["cores"] >= 1
    table = collect(sets_in(kit))
    assert table.identity == measured["identity"] and len([*table.of_kind("unit")]) >= 4
    with RunFolder(run) as opened, pytest.raises(RunError, match="another device than browser"):
        verify_measured(opened, kit, made.data)
    promised_for(run, measured["identity"])
    with RunFolder(run) as opened:
        (report,) = verify_measured(opened, kit, made.data)
    (manifest,) = manifests(run / "pareto")
    assert "verified on browser" in manifest.status and manifest.metrics == report.metrics
    told = {check.name: check.holds for check in manifest.checks}
    assert told["logits against torch"] and told["images answered there"]

    answers = np.load(kit / "measured" / f"{manifest.key}.npy")
    answers[0, 0] += 1
    np.save(kit / "measured" / f"{manifest.key}.npy", answers)
    body = read_sealed(kit / MEASURED, MEASURED_FORMAT)
    changed = f"measured/{manifest.key}.npy"
    body["files"][changed] = sha256(kit / changed)
    write_sealed(kit / MEASURED, body)
    with RunFolder(run) as opened, pytest.raises(RunError, match="answers otherwise there"):
        verify_measured(opened, kit, made.data)


@pytest.mark.slow
@needs_chromium
def test_from_any_other_server(made: Made, tmp_path: Path) -> None:
    needs_device("browser")
    run, kit = delivered_and_packed(made, tmp_path, "browser", sub_blocks=0)
    saved = kit / "browser.json"
    saved.write_bytes(said_to_another_server(kit, tmp_path / "profile"))
    assert folder_of(saved) == kit
    promised_for(run, read_sealed(kit / MEASURED, MEASURED_FORMAT)["identity"])
    with RunFolder(run) as opened:
        verify_measured(opened, kit, made.data)
    (manifest,) = manifests(run / "pareto")
    assert "verified on browser" in manifest.status


def delivered_and_packed(made: Made, folder: Path, name: str, sub_blocks: int) -> tuple[Path, Path]:
    """A run with one model that is predicted for another browser, and its kit."""
    run, device, model = folder / "run", Device.load(name), copy(made.model)
    run.mkdir()
    (run / "config.yaml").write_text("")
    (run / "environment.json").write_text('{"run": "12ab"}')
    model.identity = device.identity() | {"processor": "another"}
    made._replace(device=device, model=model).deliver(run / "pareto", made.candidate)
    space = SearchSpace.from_text(SPACE)
    packed = kits.pack(RunFolder(run, lock=False), space, made.data, sub_blocks)
    few = replace(packed.device, recipes=("float", "dynamic8", "stored8"))  # less to do
    packed = replace(packed, device=few, networks=2)
    return run, kits.write_kit(packed, folder / "kit")


def promised_for(run: Path, identity: dict[str, Any]) -> None:
    """Have the model of a run predicted for the browser that was measured."""
    (manifest,) = manifests(run / "pareto")
    write_manifest(run / "pareto" / manifest.key, replace(manifest, identity=identity))


@contextmanager
def opened_in_chromium(url: str, profile: Path) -> Iterator[None]:
    """A page while it is open."""
    command = [CHROMIUM, *QUIET, *GPU["wasm"], "--no-sandbox", f"--user-data-dir={profile}", url]
    page = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        page.terminate()
        page.wait()


def measured_with_its_program(kit: Path, profile: Path) -> None:
    """Measure a kit as its README says: the program in its folder, the page in Chromium."""
    command = [sys.executable, "page.py", "--port", "0"]
    with subprocess.Popen(command, cwd=kit, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        url = program.stderr.readline().split()[1]
        late = threading.Timer(LATE_S, program.kill)
        late.start()
        try:
            with opened_in_chromium(url, profile):
                printed = program.stderr.read()
            assert program.wait() == 0 and "Bring this folder back" in printed, printed
        finally:
            late.cancel()
            program.kill()


def said_to_another_server(kit: Path, profile: Path) -> bytes:
    """What the page gives to be saved, of a server that takes nothing and isolates no page."""
    told = queue.Queue[bytes]()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_error(501)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(kit))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with opened_in_chromium(f"http://localhost:{server.server_address[1]}", profile):
            found = told.get(timeout=LATE_S)
        server.shutdown()
    return found
