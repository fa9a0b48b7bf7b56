"""Handing over: the verified files as they are, or the same model made for another runtime."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnxruntime as ort
import pytest
import torch

from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.search.delivery import handover
from vitpareto.search.delivery.artifact import load_network
from vitpareto.search.delivery.manifest import manifests, read_manifest
from vitpareto.search.delivery.page import FILES, RUNTIME
from vitpareto.search.delivery.pick import pick_model
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import ConfigError, MissingRuntimeError, RunError

from ...shared import needs_runtime
from ..made import Made, copy_of_int8

pytestmark = pytest.mark.onnx
README = Path(__file__).parents[3] / "README.md"


@pytest.fixture(scope="module")
def run(made: Made, verified: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    path = copy_of_int8(verified, made, tmp_path_factory.mktemp("run") / "run")
    return SimpleNamespace(pareto=RunFolder(path, lock=False).pareto, data=made.data)


def picked(run: SimpleNamespace, runtime: str | None, out: Path) -> Path:
    chosen = pick_model(manifests(run.pareto), "best")
    return handover.export_picked(run.pareto, lambda: run.data, chosen, runtime, out)


@pytest.mark.parametrize("runtime", [None, "onnxruntime"])
def test_the_verified_files(run: SimpleNamespace, tmp_path: Path, runtime: str | None) -> None:
    path = picked(run, runtime, tmp_path)
    source = run.pareto / path.parent.name
    assert {p.name: p.read_bytes() for p in source.iterdir()} == {
        p.name: p.read_bytes() for p in path.parent.iterdir()
    }
    with pytest.raises(RunError, match="exists already, nothing was written"):
        picked(run, runtime, tmp_path)


MODELS = {  # of a runtime; any other has model.onnx
    "torch": {"model.torchscript.pt", "model.pt2"},
    "litert": {"model.tflite"},
    "ncnn": {"model.ncnn.zip"},
    "executorch": {"model.pte"},
    "mnn": {"model.mnn"},
    "coreml": {"model.mlpackage.zip"},
    "qnn": {"model.qnn.onnx", "model.sm8550.onnx"},
    "onnxruntime-web": {
        *("model.onnx", "about.json", *FILES, RUNTIME),
        *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    },
    "litert-web": {
        *("model.tflite", "about.json", *FILES, RUNTIME, "litert.js", "wasm-utils.js"),
        *("litert_wasm_internal.js", "litert_wasm_internal.wasm"),
        *("litert_wasm_compat_internal.js", "litert_wasm_compat_internal.wasm"),
    },
}
BESIDE = {"candidate.json", "model.safetensors", "manifest.json", "predict.py"}


@pytest.mark.parametrize(
    "runtime",
    [
        None,
        "openvino",
        "litert",
        "ncnn",
        "executorch",
        "mnn",
        "coreml",
        "qnn",
        "torch",
        "onnxruntime-web",
        "litert-web",
    ],
)
def test_the_folder_holds_what_the_readme_says(
    run: SimpleNamespace, tmp_path: Path, runtime: str | None
) -> None:
    if runtime:
        needs_runtime(runtime)
    path = picked(run, runtime, tmp_path)
    names = {file.name for file in path.parent.iterdir()}
    stand_in = find_runtime(runtime).stand_in if runtime else ""
    none = {"predict.py"} if stand_in else set()  # as it would not run here
    assert names == BESIDE - none | MODELS.get(runtime or "", {"model.onnx"})
    text = README.read_text()
    assert all(f"`{name}`" in text for name in names)
    told = json.loads((path.parent / "manifest.json").read_text())
    assert set(told["files"]) == names - {"manifest.json"}
    assert told["status"].startswith("verified: " if told["verified"] else "not verified: ")
    if runtime:
        assert not told["verified"]
        how = f"by {stand_in}, not run" if stand_in else "measured"
        assert f"{how} in {runtime} on " in told["status"]
        assert told["status"].endswith("were measured in onnxruntime on cpu-1t")


def test_what_a_kit_measured_was_another_file(run: SimpleNamespace, tmp_path: Path) -> None:
    chosen = replace(pick_model(manifests(run.pareto), "best"), kit="0a")
    path = handover.export_picked(run.pareto, lambda: run.data, chosen, "torch", tmp_path)
    manifest = read_manifest(path.parent)
    assert manifest.kit is None and manifest.state == "not verified"


def test_torch(made: Made, run: SimpleNamespace, tmp_path: Path) -> None:
    path = picked(run, "torch", tmp_path)
    manifest = read_manifest(path.parent)
    assert all(check.holds for check in manifest.checks)
    assert manifest.checks[0].name == "logits against torch"
    assert not manifest.verified  # nothing was predicted for torch
    split = made.data.split("validation")
    program = torch.export.load(path.with_name("model.pt2")).module()
    with torch.inference_mode():
        found = torch.cat([program(x) for x in split.images.split(1)])
        wanted = load_network(path.parent)(split.images)
    assert (found.argmax(1) == wanted.argmax(1)).double().mean() > 0.97


def test_a_runtime_that_is_not_there_writes_nothing(run: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such runtime 'onxruntime'\. Did you mean"):
        picked(run, "onxruntime", tmp_path / "out")
    known = r"Known: coreml, executorch, litert, litert-web, mnn, ncnn, onnxruntime, "
    known += r"onnxruntime-web, openvino, qnn, torch\."
    with pytest.raises(ConfigError, match=rf"'x'\. {known}"):
        picked(run, "x", tmp_path / "out")
    with pytest.raises(ConfigError, match=rf"'rknn'\. {known}"):
        picked(run, "rknn", tmp_path / "out")
    try:
        import openvino  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MissingRuntimeError, match="openvino, which is not installed"):
            picked(run, "openvino", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_nothing_under_a_final_name(
    run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.export, "export", killed)
    with pytest.raises(KeyboardInterrupt):
        picked(run, "torch", tmp_path)
    assert not [*tmp_path.iterdir()]
    monkeypatch.undo()
    assert picked(run, "torch", tmp_path).is_file()


@pytest.mark.parametrize("preset", ["mobile_hybrid", "cifar"])
@pytest.mark.parametrize("count", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_candidates_with_random_weights(preset: str, count: int, tmp_path: Path) -> None:
    candidates = SearchSpace.from_yaml(preset).sample(count, seed=count)
    source = tmp_path / "candidates.json"
    source.write_text(json.dumps([c.to_dict() for c in candidates]))
    paths = handover.export_candidates(source, True, "onnxruntime", tmp_path / "out")
    assert [p.parent.name for p in paths] == [c.key for c in candidates]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for path in paths:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (asked,) = session.get_inputs()
        x = torch.randn(asked.shape).numpy()
        (logits,) = session.run(None, {asked.name: x})
        assert torch.from_numpy(logits).isfinite().all()
