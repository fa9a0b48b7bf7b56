"""What ONNX Runtime refuses, some of it only in the middle of a run, is told in one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.worker import compile_file
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.runtimes.onnxruntime import OrtModel
from vitpareto.cost_models.standalone.onnxruntime_graph import Graph
from vitpareto.cost_models.standalone.runner import time_folder
from vitpareto.cost_models.standalone.timing import IN_TURN, ONE_BY_ONE
from vitpareto.spaces.errors import CostError

pytestmark = pytest.mark.onnx
HERE = Device("here", "onnxruntime", "CPUExecutionProvider", 1, ("float",))
BOUND = replace(HERE, options=(("io_binding", True),))
SHAPE = (1, 3, 8, 8)
IMAGE = np.ones(SHAPE, np.float32)


def convolution(scales: int, kind: str = "Conv") -> onnx.ModelProto:
    """A convolution of four kernels in int8, which have so many scales."""
    kernels = np.ones((4, 3, 3, 3), np.int8), np.ones(scales, np.float32), np.zeros(scales, np.int8)
    constants = [numpy_helper.from_array(x, n) for x, n in zip(kernels, "wsz", strict=True)]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["float"], axis=0),
        helper.make_node(kind, ["images", "float"], ["logits"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in (("images", SHAPE), ("logits", None))
    ]
    graph = helper.make_graph(nodes, "graph", *ends, constants)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def told(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, if it is one line."""
    text = str(error.value)
    assert text and "\n" not in text
    return text


@pytest.mark.parametrize("device", [HERE, BOUND])
def test_a_graph_that_cannot_run(device: Device) -> None:
    whole, broken = (open_runtime(device).compile(convolution(scales)) for scales in (4, 3))
    assert whole.run(IMAGE).shape == (1, 4, 6, 6)
    with pytest.raises(CostError) as error:
        broken.run(IMAGE)
    assert told(error).startswith("ONNX Runtime refuses the graph: ")
    assert "DequantizeLinear" in told(error)


def test_whatever_runs_it_says_so() -> None:
    broken = open_runtime(HERE).compile(convolution(3))
    assert isinstance(broken, OrtModel)
    watched = open_runtime(HERE).watched(convolution(3))
    for run in (lambda: broken.outputs(IMAGE), broken.fallbacks, lambda: watched.run(IMAGE)):
        with pytest.raises(CostError, match="DequantizeLinear"):
            run()


def test_images_of_another_shape() -> None:
    compiled = open_runtime(HERE).compile(convolution(4))
    with pytest.raises(CostError, match="ONNX Runtime refuses the graph") as error:
        compiled.run(IMAGE[:, :, :4])
    told(error)


def test_a_graph_that_cannot_be_opened(tmp_path: Path) -> None:
    newer = convolution(4)
    newer.opset_import[0].version = 999
    apart = tmp_path / "apart.onnx"
    onnx.save(convolution(4), apart, save_as_external_data=True, size_threshold=0, location="data")
    (tmp_path / "data").unlink()
    for source in (newer, convolution(4, kind="Nothing"), str(apart)):
        with pytest.raises(CostError, match="ONNX Runtime refuses the graph") as error:
            open_runtime(HERE).compile(source)
        told(error)


@pytest.mark.parametrize("compiles", [compile_file, Graph])
@pytest.mark.parametrize("way", [IN_TURN, ONE_BY_ONE])
def test_a_session_goes_on_without_it(tmp_path: Path, way: str, compiles) -> None:
    """In this package and with ONNX Runtime alone, as in kits."""
    for name, scales in (("broken", 3), ("whole", 4), ("anchor", 4)):
        onnx.save(convolution(scales), tmp_path / f"{name}.onnx")
    plan = {
        "device": HERE.to_dict(),
        "clock": HERE.clock,
        "rounds": 3,
        "heat_ms": 0.1,
        "seed": 0,
        "anchors": 1,
        "graphs": [{"file": f"{n}.onnx", "shape": SHAPE} for n in ("broken", "whole", "anchor")],
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    broken, whole, *_ = time_folder(tmp_path, compiles, way)["graphs"]
    assert list(broken) == ["refused"]
    assert "DequantizeLinear" in broken["refused"] and "\n" not in broken["refused"]
    assert whole["median_ms"] > 0
