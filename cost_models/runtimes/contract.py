"""Contract: what every runtime's adapter must do, as tests that those of a plugin inherit.

A subclass states the `device`:

    class TestPlainOrt(RuntimeContract):
        device = Device("here", "plain_ort", "CPUExecutionProvider", 1, ("float",))

Nothing else is needed; pytest collects what is inherited.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from ...spaces.errors import CostError
from ..device import Device
from ..runtime_spec import RuntimeSpec, find_runtime
from ..standalone.timing import stopwatch
from . import Compiled, Runtime, available, open_runtime

Array = NDArray[np.float32]
SHAPE = (2, 3, 8, 8)
CLOSE, CLOSE_IN_HALF = 1e-4, 3e-2  # relative to the largest answer


class RuntimeContract:
    """Laws of a runtime.

    Attributes:
        device: one that names the runtime and can be used here.
    """

    device: Device

    @property
    def spec(self) -> RuntimeSpec:
        """Spec that the runtime states."""
        return find_runtime(self.device.runtime)

    @property
    def runtime(self) -> Runtime:
        """Opened for the device."""
        return open_runtime(self.device)

    def compiled(self) -> Compiled:
        """A small network, from a file of the runtime's format."""
        return self.runtime.compile(self.encoded())

    def encoded(self) -> bytes:
        """The network in the runtime's format."""
        model = _graph() if self.spec.from_graphs else _module()
        return self.runtime.encode(model, SHAPE)

    def test_it_says_what_it_is(self) -> None:
        """The spec has what identities, clocks and energy are made of."""
        assert self.spec.name == self.device.runtime
        assert self.spec.version and self.spec.install and self.spec.format
        assert self.device.identity()["version"] == self.spec.version
        assert self.device.chip in self.spec.chips.values()
        assert Device.from_dict(self.device.to_dict()) == self.device
        assert available(self.device) == ""

    def test_answers_are_those_of_torch(self) -> None:
        """Also where another thread count is in force."""
        compiled, images = self.compiled(), _images()
        assert list(compiled.input_shape) == list(SHAPE)
        logits = compiled.run(images)
        assert logits.dtype == np.float32 and logits.shape == (2, 5)
        half = self.spec.rounds(compiled.kernels())
        most = (CLOSE_IN_HALF if half else CLOSE) * np.abs(_expected()).max()
        assert np.abs(logits - _expected()).max() <= most

    def test_files_and_bytes_are_alike(self) -> None:
        """A path gives the answers of its content."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"model.{self.spec.format}"
            path.write_bytes(self.encoded())
            from_file = self.runtime.compile(str(path))
            assert (from_file.run(_images()) == self.compiled().run(_images())).all()

    def test_it_takes_what_is_measured(self) -> None:
        """A torch module in this process, where files are not made of ONNX graphs."""
        if not self.spec.from_graphs:
            logits = self.runtime.compile(_module()).run(_images())
            assert np.abs(logits - _expected()).max() <= CLOSE * np.abs(_expected()).max()

    def test_runs_repeat(self) -> None:
        """The same images get the same answer, from one compiled graph and from two."""
        compiled, images = self.compiled(), _images()
        first = compiled.run(images).copy()
        compiled.run(images + 1)
        assert (compiled.run(images) == first).all()
        assert (self.compiled().run(images) == first).all()

    def test_runs_are_timed_where_they_run(self) -> None:
        """By a clock of this process, unless the graph runs outside of it and has its own."""
        compiled = self.compiled()
        assert hasattr(compiled, "stopwatch") == self.spec.outside
        readings = stopwatch(compiled, _images(), time.perf_counter)(3, 2, 1)
        assert len(readings) == 3 and min(readings) > 0

    def test_kernels_are_counted(self) -> None:
        """No kernel of a float graph multiplies integers."""
        counts = self.compiled().kernels()
        assert counts and all(name and count > 0 for name, count in counts.items())
        assert self.spec.integers(counts) == 0
        assert self.spec.integers(Counter()) == 0 and not self.spec.rounds({})

    def test_memory_is_told_or_not(self) -> None:
        """Memory is in MB, or None."""
        memory_mb = self.compiled().memory_mb()
        assert memory_mb is None or memory_mb > 0

    def test_garbage_is_refused_in_one_line(self) -> None:
        """Bytes, a file and a missing file are refused."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"model.{self.spec.format}"
            file.write_bytes(b"garbage")
            for source in (b"garbage", self.encoded()[:200], str(file), str(file) + ".missing"):
                _refused(self.runtime, source)

    def test_global_state_is_left_alone(self) -> None:
        """Threads and generators of torch are as before."""
        before = torch.get_num_threads(), torch.random.get_rng_state()
        self.compiled().run(_images())
        assert torch.get_num_threads() == before[0]
        assert torch.equal(torch.random.get_rng_state(), before[1])


def _refused(runtime: Runtime, source: Any) -> None:
    try:
        runtime.compile(source)
    except CostError as error:
        assert str(error) and "\n" not in str(error), f"not one line: {str(error)!r}"
    else:
        raise AssertionError(f"{source!r} was compiled")


@cache
def _module() -> nn.Module:
    """A network of a convolution and a linear layer."""
    with torch.random.fork_rng(devices=[]):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    generator = torch.Generator().manual_seed(0)
    for value in module.parameters():
        value.data.normal_(std=0.1, generator=generator)
    return module.eval()


@cache
def _graph() -> onnx.ModelProto:
    """The same as an ONNX model."""
    state = _module().state_dict()
    constants = [numpy_helper.from_array(value.numpy(), name) for name, value in state.items()]
    nodes = [
        helper.make_node("Conv", ["images", "0.weight", "0.bias"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "3.weight", "3.bias"], ["logits"], transB=1),
    ]
    images, logits = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", SHAPE), ("logits", (2, 5)))
    )
    graph = helper.make_graph(nodes, "contract", [images], [logits], constants)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def _images() -> Array:
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def _expected() -> Array:
    with torch.inference_mode():
        return _module()(torch.from_numpy(_images())).numpy()
