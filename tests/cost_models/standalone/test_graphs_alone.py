"""What opens a file with its runtime alone does what the adapter of that runtime does."""

import ast
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.calibration.bundle import STANDALONE, STANDALONE_RUNTIMES, package_of
from vitpareto.cost_models.graphs.files import unit_file
from vitpareto.cost_models.graphs.modules import build
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.runtime_spec import find_runtime
from vitpareto.cost_models.runtimes import open_runtime, run_all
from vitpareto.cost_models.runtimes.onnxruntime import OrtRuntime
from vitpareto.cost_models.standalone import kit_runner, onnxruntime_graph
from vitpareto.cost_models.standalone.kit_files import ANSWERS
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import needs_runtime

pytestmark = pytest.mark.onnx
CPU = dict.fromkeys(("openvino", "litert", "ncnn", "mnn", "executorch"), "CPU")
PROVIDERS = {"onnxruntime": "CPUExecutionProvider", **CPU}


@pytest.mark.parametrize("runtime", STANDALONE_RUNTIMES)
def test_it_runs_as_the_adapter_does(runtime: str, tmp_path: Path) -> None:
    needs_runtime(runtime)
    module = import_module(f"vitpareto.cost_models.standalone.{runtime}_graph")
    assert all(map(import_module, module.MODULES))
    device = Device("here", runtime, PROVIDERS[runtime], 1, ("float", "dynamic8"))
    spec = find_runtime(runtime)
    assert module.version() == spec.version and module.PACKAGE in spec.distributions
    blocks = workload(SearchSpace.from_yaml("digits").smallest()).sub_blocks
    block = next(b for b in blocks if b.kind == "mlp")
    network, shape = build(block, 1)
    for recipe in ("float", "dynamic8") if spec.recipes != ("float",) else ("float",):
        path = tmp_path / f"{recipe}.{spec.format}"
        path.write_bytes(unit_file(device, to_onnx(network, shape), recipe, 1).content)
        alone, adapter = module.Graph(str(path), device.to_dict()), open_runtime(device)
        compiled = adapter.compile(str(path))
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        assert np.array_equal(alone.run(x), compiled.run(x))
        assert alone.kernels() == compiled.kernels()
    (tmp_path / "bad").write_bytes(b"no model")
    with pytest.raises((ValueError, RuntimeError)):
        module.Graph(str(tmp_path / "bad"), device.to_dict())


@pytest.mark.parametrize("count", [3, 5, 8, 9])
def test_any_number_of_images_fills_its_batches(count: int, tmp_path: Path) -> None:
    """Also less than half of one, here and in kits."""
    model = to_onnx(torch.nn.Flatten(), (8, 1, 2, 2))
    onnx.save(model, tmp_path / "x.onnx")
    device = Device("here", "onnxruntime", PROVIDERS["onnxruntime"], 1, ("float",), batch=8)
    images = np.random.default_rng(0).standard_normal((count, 1, 2, 2)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    about = {"input": "images.npy", "file": "x.onnx"}
    assert kit_runner.answer(tmp_path, "key", about, {"device": device.to_dict()})
    told = np.load(tmp_path / ANSWERS / "key.npy")
    found = run_all(open_runtime(device).compile(model), images, 8)
    assert np.array_equal(found, images.reshape(count, 4)) and np.array_equal(told, found)


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_here_is_never_measured(name: str, tmp_path: Path) -> None:
    """ONNX Runtime takes the processor instead, whose times would be stored as that provider's."""
    device = Device.load(name)
    if device.provider in ort.get_available_providers():
        pytest.skip(f"this build has {device.provider}")
    model = to_onnx(torch.nn.Linear(4, 4).eval(), (1, 4))
    onnx.save(model, tmp_path / "x.onnx")
    told = f"asked for {device.provider} and runs on CPUExecutionProvider: install"
    with pytest.raises(CostError, match=told):
        OrtRuntime(device).compile(model)
    with pytest.raises(SystemExit, match=f"^Error: ONNX Runtime was {told}"):
        onnxruntime_graph.Graph(str(tmp_path / "x.onnx"), device.to_dict())
    assert package_of(device) == "onnxruntime-gpu"


def test_what_is_copied_needs_numpy_and_a_runtime_alone() -> None:
    own = {path.stem for path in STANDALONE.glob("*.py")} | {"graph", "run"}
    runtimes = {"onnxruntime", "pynvml"}
    for path in STANDALONE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module] if not node.level else []
                assert node.level < 2, f"{path.name} imports from above"
            for name in (n.partition(".")[0] for n in names):
                assert name in sys.stdlib_module_names | own | runtimes | {"numpy"}, path.name
