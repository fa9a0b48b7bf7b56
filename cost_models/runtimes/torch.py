"""torch, eager or compiled by inductor, on a processor or a GPU."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ...spaces.errors import CostError, MissingRuntimeError
from ..device import Device
from . import Source

Array = NDArray[np.float32]


class TorchModel:
    """A module in evaluation mode on its device."""

    def __init__(self, module: nn.Module, device: Device) -> None:
        self._device = device
        self._place = torch.device(device.provider)
        torch.set_num_threads(device.threads)
        ready = module.eval().to(self._place)
        self._module: Any = torch.compile(ready) if device.compiled else ready

    def run(self, images: Array) -> Array:
        """Inputs -> outputs; returns when the device has finished."""
        with torch.inference_mode():
            return self._module(torch.from_numpy(images).to(self._place)).cpu().numpy()

    def kernels(self, images: Array | None = None) -> dict[str, int]:
        """Operators that one run executes.

        Raises:
            CostError: there is no input to run it with.
        """
        if images is None:
            raise CostError("torch shows its kernels only while it runs: give an input")
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            self.run(images)
        return dict(Counter(event.name for event in seen.events() or []))

    def memory_mb(self) -> float | None:
        """Peak of the device's allocator; None on a processor, where there is no counter."""
        if self._place.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self._place) / 1e6


class TorchRuntime:
    """Takes modules; every one is compiled as the device says."""

    takes = "module"

    def __init__(self, device: Device) -> None:
        self._device = device

    def compile(self, model: Source) -> TorchModel:
        """Move a module to the device.

        Raises:
            CostError: not a module.
        """
        if not isinstance(model, nn.Module):
            raise CostError(f"torch takes a module, got a {type(model).__name__}")
        return TorchModel(model, self._device)


def open_runtime(device: Device) -> TorchRuntime:
    """Torch on the device's provider, "cpu" or "cuda".

    Raises:
        MissingRuntimeError: there is no such device here.
    """
    if device.provider == "cuda" and not torch.cuda.is_available():
        raise MissingRuntimeError(
            f"device {device.name!r} needs a GPU that torch {torch.__version__} can use; there "
            "is none here"
        )
    return TorchRuntime(device)
