"""Options of a runtime: named in device files, part of every number, and set where it runs."""

import io
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.device import check_settings, fingerprint
from vitpareto.cost_models.graphs.modules import network
from vitpareto.cost_models.graphs.quantize import apply_recipe
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.runtimes.onnxruntime_profile import read_fallbacks
from vitpareto.cost_models.standalone import onnxruntime_graph
from vitpareto.cost_models.standalone.onnxruntime_graph import providers_of
from vitpareto.search.delivery.program import onnxruntime as part
from vitpareto.search.delivery.program.assemble import program
from vitpareto.spaces import ConfigError, SearchSpace
from vitpareto.spaces.errors import CostError

pytestmark = pytest.mark.onnx
HERE = Device.load("cpu-1t")
LAYER = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))
SHAPE = (2, 3, 8)


def device(provider: str = "CPUExecutionProvider", **options: bool | int | str) -> Device:
    given = {"name": "x", "runtime": "onnxruntime", "provider": provider, "threads": 1}
    return Device.from_dict({**given, "recipes": ["float"], "options": options})


@pytest.mark.parametrize(
    ("provider", "options", "message"),
    [
        ("CPUExecutionProvider", {"arean": True}, "options.arean: no such option of onnxruntime"),
        ("CPUExecutionProvider", {"fp16": True}, "options.fp16: no such option of onnxruntime on"),
        ("TensorrtExecutionProvider", {"int8": 1}, "options.int8: need true or false, got 1"),
        ("TensorrtExecutionProvider", {"workspace_mb": 0}, "need a whole number from 1, got 0"),
        ("CPUExecutionProvider", {"optimization": "al"}, "'al'. Did you mean 'all'"),
    ],
)
def test_an_option_that_is_not_there_is_refused(provider, options, message) -> None:
    with pytest.raises(ConfigError) as error:
        device(provider, **options)
    assert message in str(error.value)


def test_they_belong_to_the_identity_of_a_number() -> None:
    tuned = replace(HERE, options=(("arena", False),))
    assert tuned.fingerprint() != HERE.fingerprint()
    assert "options" not in HERE.identity()  # as before there were any
    read = Device.of_identity(tuned.identity(), "x", [])
    assert read.options == tuned.options and read.identity() == tuned.identity()
    assert fingerprint(Device.from_dict(tuned.to_dict()).identity()) == tuned.fingerprint()


def test_a_cost_model_is_of_the_same_options() -> None:
    tuned = replace(HERE, options=(("arena", False),))
    for device, measured in ((HERE, tuned), (tuned, HERE)):
        with pytest.raises(CostError, match=r"x: was measured with options \{"):
            check_settings(device, measured.identity(), "x")
    check_settings(tuned, tuned.identity(), "x")


def test_a_session_has_them_and_computes_the_same() -> None:
    model = to_onnx(LAYER.eval(), SHAPE)
    plain = open_runtime(HERE).compile(model)
    xs = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    wanted = [plain.run(x) for x in xs]
    for options in ({"arena": False, "memory_pattern": False}, {"io_binding": True}):
        tuned = open_runtime(device(**options)).compile(model)
        found = [tuned.run(x) for x in xs]  # bound memory is used again, answers stay
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    raw = open_runtime(device(optimization="none")).compile(model)
    assert "Gemm" in plain.kernels() and "Gemm" not in raw.kernels()
    assert np.allclose(raw.run(xs[0]), wanted[0], atol=1e-6)


def test_torch_takes_channels_last() -> None:
    conv = torch.nn.Conv2d(3, 8, 3).eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32)
    plain = Device.load("torch-1t")
    last = replace(plain, options=(("layout", "channels_last"),))
    seen: list[bool] = []
    conv.register_forward_hook(
        lambda _, inputs, y: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    found = [open_runtime(d).compile(conv).run(x) for d in (plain, last)]
    assert seen == [False, True] and np.allclose(*found, atol=1e-6)


def test_modules_stay_where_they_are() -> None:
    """What is moved to the device, in evaluation mode, is a copy."""
    module = torch.nn.Linear(4, 4)
    open_runtime(Device("elsewhere", "torch", "meta", 1, ("float",))).compile(module)
    assert module.weight.device.type == "cpu" and module.training


def test_kits_and_programs_have_them(tmp_path) -> None:
    """The files that are copied to other machines set the same."""
    tuned = device(optimization="none", io_binding=True)
    onnx.save(to_onnx(LAYER.eval(), SHAPE), tmp_path / "x.onnx")
    graph = onnxruntime_graph.Graph(str(tmp_path / "x.onnx"), tuned.to_dict())
    x = np.ones(SHAPE, np.float32)
    with torch.no_grad():
        assert np.allclose(graph.run(x), LAYER(torch.ones(SHAPE)).numpy(), atol=1e-6)
    assert len(graph.kernels()) >= len(
        open_runtime(tuned).compile(str(tmp_path / "x.onnx")).kernels()
    )
    engine = device("TensorrtExecutionProvider", fp16=True, engine_cache="engines")
    source = program(engine, part)
    assert "'trt_fp16_enable': '1'" in source and "'trt_engine_cache_path': 'engines'" in source
    assert "'graph_optimization_level': 'ORT_DISABLE_ALL'" in program(tuned, part)
    compile(source, "predict.py", "exec")


def test_what_other_providers_execute_is_counted() -> None:
    compiled = open_runtime(HERE).compile(to_onnx(LAYER.eval(), SHAPE))
    assert compiled.fallbacks() == {}
    events = [
        {"name": f"{kind}_kernel_time", "args": {"op_name": kind, "provider": provider}}
        for kind, provider in [("Gelu", "CPUExecutionProvider"), ("Gemm", "CUDAExecutionProvider")]
    ]
    assert read_fallbacks([*events, {"name": "model_run"}], "CUDAExecutionProvider") == {"Gelu": 1}


def test_the_gpu_devices_say_what_their_providers_take() -> None:
    cuda, tensorrt = Device.load("cuda"), Device.load("tensorrt")
    (name, own), rest = providers_of(tensorrt.to_dict())
    assert name == tensorrt.provider and rest == ("CUDAExecutionProvider", {})
    assert own["trt_int8_enable"] == "1" and own["trt_engine_cache_enable"] == "1"
    assert own["trt_max_workspace_size"] == str(2048 * 10**6) and "trt_fp16_enable" not in own
    graphs = device("CUDAExecutionProvider", cuda_graph=True)
    assert providers_of(graphs.to_dict()) == [(graphs.provider, {"enable_cuda_graph": "1"})]
    assert dict(cuda.options)["io_binding"] and cuda.clock == "wall"


@pytest.mark.parametrize("batch", [1, 4])
def test_tensorrt_gets_symmetric_scales_and_zeros_of_0(batch: int) -> None:
    """And no bias in integers, in no layer of a network in 8 bits; also in batches."""
    (recipe,) = (name for name in Device.load("tensorrt").recipes if name != "float")
    a = (candidate := SearchSpace.from_yaml("digits").largest()).architecture
    shape = (batch, a.in_chans, a.input_size, a.input_size)
    plain = to_onnx(network(candidate), shape)
    made = apply_recipe(plain, recipe)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    pairs = [n for n in made.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [stored[n.input[2]] for n in pairs if len(n.input) > 2]
    assert zeros and all(z.dtype == np.int8 and not z.any() for z in zeros)
    assert {stored[n.input[0]].dtype for n in pairs if n.input[0] in stored} == {np.dtype(np.int8)}
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found, wanted = (open_runtime(HERE).compile(g).run(x) for g in (made, plain))
    assert found.shape == wanted.shape and len(found) == batch
    assert 0 < np.abs(found - wanted).max() < 0.2 * np.abs(wanted).max()


@pytest.mark.filterwarnings("ignore")  # of the future of TorchScript
def test_a_torchscript_file_of_others_says_no_shape() -> None:
    """Only ours do; it runs all the same."""
    stream, x = io.BytesIO(), torch.ones(SHAPE)
    torch.jit.save(torch.jit.trace(LAYER.eval(), (x,)), stream)
    opened = open_runtime(Device.load("torch-1t")).compile(stream.getvalue())
    assert opened.input_shape == []
    assert np.allclose(opened.run(x.numpy()), LAYER(x).detach().numpy(), atol=1e-6)
