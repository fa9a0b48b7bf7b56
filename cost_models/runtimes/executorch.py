"""ExecuTorch on the processor: programs that XNNPACK runs as a whole."""

from __future__ import annotations

from ...spaces.errors import MissingRuntimeError
from ..device import Device
from ..runtime_spec import RuntimeSpec
from ..standalone import executorch_graph
from ..standalone.energy_meter import PROCESSOR
from .converting import FileRuntime


class ExecuTorchRuntime(FileRuntime):
    """Converts ONNX graphs, and runs what it converted on a number of threads.

    Raises:
        ModuleNotFoundError: it is not installed.
        MissingRuntimeError: it was built for another release of torch.
    """

    title, part, writer = "ExecuTorch", executorch_graph, "..executorch.convert:to_executorch"

    def __init__(self, device: Device) -> None:
        try:
            super().__init__(device)
        except ModuleNotFoundError:
            raise
        except ImportError as error:
            raise MissingRuntimeError(
                f"device {device.name!r}: executorch {self.part.version()} does not go with this "
                f"torch: {error}"
            ) from error


SPEC = RuntimeSpec(
    name="executorch",
    distributions=("executorch",),
    install="vitpareto[executorch]",
    format="executorch",
    chips={"CPU": PROCESSOR},
    open=ExecuTorchRuntime,
    integer_kernels=("*, QD8, *", "*, QDU8, *", "*, QP8, *"),  # of a kernel in XNNPACK's words
    converts=True,
    recipes=("float", "dynamic8"),
    channels_last=True,
    tested=("1.5", "1.5"),
)
