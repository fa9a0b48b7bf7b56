"""Our own formats keep the contract that plugins' formats are held to."""

import io
import json
import warnings
from dataclasses import replace

import onnx
import pytest
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.coreml.package import read_program as read_coreml
from vitpareto.cost_models.executorch.reading import read_file as read_program
from vitpareto.cost_models.mnn.fields import about_of
from vitpareto.cost_models.ncnn.reading import read_file as read_ncnn
from vitpareto.cost_models.tflite.reading import read_file
from vitpareto.search.delivery.contract import FormatContract
from vitpareto.search.delivery.formats import FORMATS
from vitpareto.search.delivery.handover import device_of
from vitpareto.spaces.errors import CostError

from ...shared import needs_device, needs_runtime


class TestOnnx(FormatContract):
    name, device = "onnx", Device.load("cpu-1t")

    def metadata(self, content: bytes) -> dict:
        model = onnx.load_model_from_string(content)
        return {p.key: json.loads(p.value) for p in model.metadata_props}


class TestOnnxWithFixedRanges(TestOnnx):
    device = replace(TestOnnx.device, recipes=("float", "static8", "stored8", "static4", "stored4"))


class TestTflite(FormatContract):
    name, device = "tflite", Device.load("cpu-litert")

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("litert")

    def metadata(self, content: bytes) -> dict:
        return {name: json.loads(text) for name, text in read_file(content).about.items()}


class TestNcnn(FormatContract):
    name, device = "ncnn", Device.load("cpu-ncnn")

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("ncnn")

    def metadata(self, content: bytes) -> dict:
        return dict(read_ncnn(content).about)


class TestExecuTorch(FormatContract):
    name, device = "executorch", Device.load("cpu-executorch")

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("executorch")

    def metadata(self, content: bytes) -> dict:
        return dict(read_program(content).about)


class TestMnn(FormatContract):
    name, device = "mnn", Device.load("cpu-mnn")

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("mnn")

    def metadata(self, content: bytes) -> dict:
        return dict(about_of(content))


class TestCoreMl(FormatContract):
    name, device = "coreml", device_of("coreml")

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("coreml")

    def metadata(self, content: bytes) -> dict:
        about = read_coreml(content).about.items()
        return {name: json.loads(text) for name, text in about if not name.startswith("com.")}


class TestQnn(TestOnnx):
    name, device, batches = "qnn", device_of("qnn"), (1,)

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_runtime("qnn")


class TestTorchScript(FormatContract):
    name, device = "torchscript", Device.load("torch-1t")

    def metadata(self, content: bytes) -> dict:
        found = {"about.json": ""}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript's future
            torch.jit.load(io.BytesIO(content), _extra_files=found)
        return json.loads(found["about.json"])


def test_an_npu_takes_one_image() -> None:
    """Its emulator answers wrongly for all others of a batch."""
    needs_runtime("qnn")
    contract = TestQnn()
    device = replace(contract.device, batch=2)
    with pytest.raises(CostError, match=r"^qnn: batch: an NPU takes one image at once, got 2$"):
        contract.format.encode(next(contract.builds()), device, None)


def test_all_are_there() -> None:
    names = ["onnx", "tflite", "ncnn", "executorch", "mnn", "coreml", "qnn", "torchscript"]
    assert list(FORMATS) == names
    assert len({FORMATS[name].file for name in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("name", ["cpu-openvino", "node"])
def test_others_run_the_same_files(name: str) -> None:
    needs_device(name)
    contract = TestOnnx()
    contract.device = Device.load(name)
    contract.test_its_runtime_names_it()
    contract.test_the_runtime_answers_as_torch()
    contract.test_companions_have_names_of_their_own()
