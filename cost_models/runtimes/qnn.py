"""Qualcomm's NPUs (HTP) by QNN: static ONNX graphs, compiled to the NPU's binary here.

What a graph answers on an NPU is computed by the emulator that comes with QNN, to the bit as its
makers say; it tells nothing of latency, and nothing is timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError, MissingRuntimeError
from ..device import Device
from ..runtime_spec import RuntimeSpec
from ..standalone.onnxruntime_graph import refusals
from ..standalone.silence import silent
from ..stored_weights import StoredWeights
from . import Source
from .converting import Converting, refusal, refusing
from .scratch import scratch

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]
PROVIDER = "QNNExecutionProvider"
CHIPS: Mapping[str, tuple[str, str]] = {  # provider -> model of the chip, architecture of its NPU
    "sm8550": ("43", "73"),  # Snapdragon 8 Gen 2
    "sm8650": ("57", "75"),  # Snapdragon 8 Gen 3
    "sm8750": ("69", "79"),  # Snapdragon 8 Elite
    "sc8380xp": ("60", "73"),  # Snapdragon X Elite
}
LISTED = 3  # operators that a message names at most
PLACES = ("QuantizeLinear", "DequantizeLinear")  # that only say how a value is rounded


class QnnModel:
    """One session on the emulator."""

    def __init__(self, session: Any, content: bytes) -> None:
        self._session, self._content = session, content
        (given,) = session.get_inputs()
        self._name = given.name
        self.input_shape = [int(n) for n in given.shape]

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> what the NPU would answer.

        Raises:
            CostError: QNN refuses the graph only now.
        """
        with refusing(QnnRuntime.title, "graph", refusals()):
            return self._session.run(None, {self._name: images})[0]

    def kernels(self) -> dict[str, int]:
        """Operators of the graph, with what the NPU multiplies: it has no float32."""
        import onnx

        graph = onnx.load_model_from_string(self._content).graph
        rounded = {o for n in graph.node if n.op_type == PLACES[1] for o in n.output}
        counts: Counter[str] = Counter()
        for node in graph.node:
            if node.op_type not in PLACES:
                integers = bool(node.input) and node.input[0] in rounded
                counts[f"{node.op_type}:{'integers' if integers else 'float16'}"] += 1
        return dict(counts)

    def memory_mb(self) -> None:
        """Nothing: the NPU is not here."""
        return


class QnnRuntime(Converting):
    """Opens ONNX graphs on the emulator of an NPU, and compiles them to its binary."""

    title = "QNN"

    def __init__(self, device: Device) -> None:
        self._device = device

    def compile(self, model: Source) -> QnnModel:
        """Open a session in which the NPU does everything.

        Raises:
            CostError: QNN refuses the graph, or leaves operators to the processor, which are named.
        """
        content = self.content(model)
        try:
            session = self._session(content)
            read = content if isinstance(content, bytes) else Path(content).read_bytes()
            return QnnModel(session, read)
        except (*refusals(), OSError) as error:
            raise self._refusal(content, error) from error

    def convert(
        self,
        model: onnx.ModelProto,
        weights: Mapping[str, StoredWeights],
        about: Mapping[str, str],
    ) -> bytes:
        """Make a file of a float graph: the same, with what its weights are rounded to.

        Raises:
            CostError: a layer that is to multiply integers whose scales are found at each run.
        """
        import onnx

        from ..stored_floats import with_floats

        new = with_floats(model, weights, self.title)
        onnx.helper.set_model_props(new, dict(about))
        return new.SerializeToString()

    def binary(self, content: bytes) -> bytes:
        """Compile a graph to the binary of the NPU, inside of an ONNX file that ONNX Runtime opens.

        Raises:
            CostError: QNN refuses the graph.
        """
        refused = (*refusals(), OSError)
        with scratch() as folder, refusing(self.title, "graph", refused):
            path = folder / "context.onnx"
            more = {
                "ep.context_enable": "1",
                "ep.context_embed_mode": "1",
                "ep.context_file_path": str(path),
            }
            self._session(content, more)
            return path.read_bytes()

    def _session(self, content: bytes | str, more: Mapping[str, str] | None = None) -> Any:
        ort, qnn, npu = _loaded()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        for name, value in ({"session.disable_cpu_ep_fallback": "1"} | dict(more or {})).items():
            options.add_session_config_entry(name, value)
        chip, architecture = CHIPS[self._device.provider]
        options.add_provider_for_devices(
            [npu],
            {
                "backend_path": qnn.get_qnn_htp_path(),
                "soc_model": chip,  # without which graphs have no memory of their own
                "htp_arch": architecture,
            },
        )
        with silent():  # QNN prints of its configuration
            return ort.InferenceSession(content, options)

    def _refusal(self, content: bytes | str, error: Exception) -> CostError:
        """Why a graph is refused; where the processor would have to help, with what."""
        if "fallback to CPU EP" not in str(error):
            return refusal(self.title, "graph", error)
        told = {
            "session.disable_cpu_ep_fallback": "0",
            "session.record_ep_graph_assignment_info": "1",
        }
        parts = self._session(content, told).get_provider_graph_assignment_info()
        nodes = [n for part in parts if part.ep_name != PROVIDER for n in part.get_nodes()]
        listed = [f"{n.op_type} {n.name!r}" if n.name else n.op_type for n in nodes]
        more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        named = ", ".join(listed[:LISTED]) + more
        return CostError(f"QNN: the NPU has no operator {named}")


def open_runtime(device: Device) -> QnnRuntime:
    """QNN for a chip.

    Raises:
        ModuleNotFoundError: it is not installed.
        MissingRuntimeError: the chip is unknown, or QNN does not go with this ONNX Runtime.
    """
    if device.provider not in CHIPS:
        raise MissingRuntimeError(
            f"device {device.name!r}: provider: no such chip {device.provider!r}. "
            f"Known: {', '.join(CHIPS)}."
        )
    _loaded()
    return QnnRuntime(device)


@cache
def _loaded() -> tuple[Any, Any, Any]:
    """ONNX Runtime, QNN, and the NPU, or its emulator, as a device of ONNX Runtime."""
    import onnxruntime as ort

    qnn = import_module("onnxruntime_qnn")
    try:
        ort.register_execution_provider_library(PROVIDER, qnn.get_library_path())
    except refusals() as error:
        raise MissingRuntimeError(
            f"onnxruntime-qnn {SPEC.version} does not go with onnxruntime {ort.__version__}: "
            f"{refusal('ONNX Runtime', 'library', error)!s}"
        ) from error
    return ort, qnn, next(d for d in ort.get_ep_devices() if d.ep_name == PROVIDER)


SPEC = RuntimeSpec(
    name="qnn",
    distributions=("onnxruntime-qnn",),
    install="vitpareto[qnn]",
    format="qnn",
    chips=dict.fromkeys(CHIPS, "qualcomm"),
    open=open_runtime,
    in_caller=False,
    integer_kernels=("*:integers",),
    half_kernels=("*:float16",),
    converts=True,
    recipes=("float", "stored8"),
    stand_in="the emulator of its NPU",
    tested=("2.7", "2.7"),
)
