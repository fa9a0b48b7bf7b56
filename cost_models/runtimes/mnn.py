"""Alibaba's MNN on the processor, the runtime of its apps on phones."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from ..device import Device
from ..runtime_spec import RuntimeSpec
from ..standalone.energy_meter import PROCESSOR
from ..standalone.mnn_graph import Graph, silent
from ..stored_weights import StoredWeights
from . import Source
from .converting import Converting, as_file, refusal

if TYPE_CHECKING:
    import onnx


class MnnRuntime(Converting):
    """Converts ONNX graphs by MNN's converter, and runs what it made on a number of threads."""

    def __init__(self, device: Device) -> None:
        with silent():
            import_module("MNN")
        self._device = device.to_dict()

    def compile(self, model: Source) -> Graph:
        """Open a session.

        Raises:
            CostError: MNN refuses the file.
        """
        content = self.content(model)
        try:
            with as_file(content) as path:
                return Graph(path, self._device)
        except (OSError, ValueError) as error:
            raise refusal("MNN", "file", error) from error

    def convert(
        self,
        model: onnx.ModelProto,
        weights: Mapping[str, StoredWeights],
        about: Mapping[str, str],
    ) -> bytes:
        """Make a file of a float graph.

        Raises:
            CostError: MNN's converter refuses the graph, or dies of it.
        """
        from ..mnn.convert import to_mnn

        return to_mnn(model, weights, about)


SPEC = RuntimeSpec(
    name="mnn",
    distributions=("MNN",),
    install="vitpareto[mnn]",
    format="mnn",
    chips={"CPU": PROCESSOR},
    open=MnnRuntime,
    converts=True,
    # Integers take 1.8 to 3.4 times as long as floats in its kernels for x86.
    recipes=("float",),
    tested=("3.6", "3.6"),
)
