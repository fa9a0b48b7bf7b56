"""torch, eager or compiled by inductor, on a processor or a GPU."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections import Counter
from collections.abc import Generator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError, MissingRuntimeError
from ..device import Device
from ..runtime_spec import Option, RuntimeSpec
from ..standalone.energy_meter import NVIDIA, PROCESSOR
from . import Runtime, Source
from .converting import refusing

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.float32]
SHAPE = "input_shape"  # extra file of a TorchScript archive, as JSON


class TorchModel:
    """A module in evaluation mode on its device.

    Attributes:
        input_shape: of the one input; empty where nothing tells.
    """

    def __init__(self, module: nn.Module, device: Device, input_shape: list[int]) -> None:
        import torch

        self.input_shape = input_shape
        self._threads = device.threads
        self._place = torch.device(device.provider)
        ready = deepcopy(module).eval().to(self._place)  # the caller's stays where it is
        self._last = dict(device.options).get("layout") == "channels_last"
        if self._last:
            ready = ready.to(memory_format=torch.channels_last)
        self._module: Any = torch.compile(ready) if device.compiled else ready

    def run(self, images: Array) -> Array:
        """Inputs -> outputs; returns when the device has finished."""
        import torch

        with threads(self._threads), torch.inference_mode():
            x = torch.from_numpy(images).to(self._place)
            x = x.contiguous(memory_format=torch.channels_last) if self._last else x
            return self._module(x).cpu().numpy()

    def kernels(self, images: Array | None = None) -> dict[str, int]:
        """Operators that one run executes.

        Raises:
            CostError: there is no input to run it with.
        """
        from torch.autograd.profiler import profile

        if images is None:
            if not self.input_shape:
                raise CostError("torch shows its kernels only while it runs: give an input")
            images = np.zeros(self.input_shape, np.float32)
        self.run(images)
        self.run(images)  # TorchScript rewrites itself in its first runs
        seen = profile(use_kineto=False)  # Kineto writes to standard error
        with seen:
            self.run(images)
        return dict(Counter(event.name for event in seen.function_events or []))

    def memory_mb(self) -> float | None:
        """Peak of the device's allocator; None on a processor, where there is no counter."""
        import torch

        if self._place.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self._place) / 1e6


class TorchRuntime(Runtime):
    """Takes modules, and files of TorchScript; every one is compiled as the device says."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def compile(self, model: Source) -> TorchModel:
        """Move a copy of a module to the device.

        Raises:
            CostError: not a module, nor a file of one.
        """
        from torch import nn

        shape: list[int] = []
        if isinstance(model, bytes | str | Path):
            model, shape = _loaded(model)
        if not isinstance(model, nn.Module):
            raise CostError(f"torch takes a module, got a {type(model).__name__}")
        return TorchModel(model, self._device, shape)

    def encode(self, model: Source, shape: Sequence[int]) -> bytes:
        """A module as a file of TorchScript that says the shape of its input."""
        import torch

        stream, extra = io.BytesIO(), {SHAPE: json.dumps(list(shape))}
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of TorchScript's future, and of tracing
            traced = torch.jit.trace(model.eval(), (torch.zeros(*shape),))
            torch.jit.save(torch.jit.freeze(traced), stream, _extra_files=extra)
        return stream.getvalue()


def open_runtime(device: Device) -> TorchRuntime:
    """Torch on the device's provider, "cpu" or "cuda".

    Raises:
        MissingRuntimeError: there is no such device here.
    """
    import torch

    if device.provider == "cuda" and not torch.cuda.is_available():
        raise MissingRuntimeError(
            f"device {device.name!r} needs a GPU that torch {torch.__version__} can use; there "
            "is none here"
        )
    return TorchRuntime(device)


SPEC = RuntimeSpec(
    name="torch",
    distributions=("torch",),
    install="vitpareto[search]",
    format="torchscript",
    chips={"cpu": PROCESSOR, "cuda": NVIDIA},
    open=open_runtime,
    options={"layout": Option(("nchw", "channels_last"), (), ("nchw", "channels_last"))},
)


@contextlib.contextmanager
def threads(count: int) -> Generator[None]:
    """Set the number of threads inside torch's operators; restore it afterward.

    Also where torch has as many by itself: only what is set makes its libraries keep to it, so that
    all is as it is where OMP_NUM_THREADS asks for another number.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loaded(model: bytes | str | Path) -> tuple[nn.Module, list[int]]:
    """A TorchScript module, and the shape of its input if the file says."""
    import torch

    extra = {SHAPE: ""}
    source = io.BytesIO(model) if isinstance(model, bytes) else str(model)
    with refusing("torch", "file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's future
        module = torch.jit.load(source, _extra_files=extra)
    return module, json.loads(extra[SHAPE] or "[]")  # torch empties those that the file lacks
