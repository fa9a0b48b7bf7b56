"""onnxruntime-web: ONNX Runtime as WebAssembly, in Chromium and in Node.js.

In a page WebGPU may execute models, on the GPU that the browser gives; what it has no kernel for is
left to WebAssembly.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from ...spaces.errors import CostError, MissingRuntimeError
from ..device import Device
from ..runtime_spec import ONNX, Option, RuntimeSpec
from ..web.packages import CHROMIUM, NODE, ORT, WASM, WEBGPU, host_version, package_version
from . import Source, as_bytes
from .web import STARTS, WebModel, WebRuntime


class OrtWebModel(WebModel):
    """An inference session."""

    def kernels(self) -> dict[str, int]:
        """Operators that one run executes."""
        return dict(Counter(self.kernel_names()))


class OrtWebRuntime(WebRuntime):
    """Reads ONNX."""

    title, starts = "onnxruntime-web", STARTS

    def compile(self, model: Source) -> OrtWebModel:
        """Open a session.

        Raises:
            CostError: onnxruntime-web refuses the graph.
        """
        return self.opened(as_bytes(model), OrtWebModel)


def open_runtime(device: Device) -> OrtWebRuntime:
    """onnxruntime-web in the program that the device's provider names.

    Raises:
        ModuleNotFoundError: npm has not installed it.
        MissingRuntimeError: the program is not here, or there is none of that name; or it has no
            GPU for WebGPU, which is asked for.
    """
    executes = str(dict(device.options).get("provider", WASM))
    runtime = OrtWebRuntime(device, executes)
    if executes == WEBGPU:  # only the program itself tells whether it can execute models so
        try:
            _ = runtime.host
        except CostError as error:
            raise MissingRuntimeError(f"device {device.name!r}: {error}") from None
    return runtime


SPEC = RuntimeSpec(
    name="onnxruntime-web",
    distributions=("onnxruntime-web",),
    install="onnxruntime-web@1.30.0",
    installer="npm",
    find_version=partial(package_version, ORT),
    host=host_version,
    format=ONNX,
    chips={CHROMIUM: "WebAssembly", NODE: "WebAssembly"},
    open=open_runtime,
    in_caller=False,
    outside=True,
    folds_constants=True,
    integer_kernels=(
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul"),
        *("QGemm", "ConvInteger", "QLinearConv", "QAttention"),
    ),
    tested=("1.27", "1.30"),
    options={"provider": Option((WASM, WEBGPU), (CHROMIUM,), (WASM, WEBGPU))},
)
