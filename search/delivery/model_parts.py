"""Model parts: files that hand over, opened in their runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...cost_models import Device
from ...cost_models.runtimes import Compiled, open_runtime
from ...spaces.errors import CostError
from .kernel_inventory import Inventory, inventory_of


class HandsOver(Compiled, Protocol):
    """A graph with more than one output, as runtimes compile it whose spec says `hands_over`."""

    def outputs(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Input of the compiled shape -> all outputs."""
        ...


@dataclass(frozen=True)
class ModelPart:
    """One part of a model with exits.

    Attributes:
        content: of its file.
        opened: ready to run.
        runtime: that opened it.
    """

    content: bytes
    opened: HandsOver
    runtime: str

    @classmethod
    def open(cls, path: Path, content: bytes, device: Device) -> ModelPart:
        """Open a part.

        Raises:
            CostError: the runtime refuses it.
            MissingRuntimeError: the runtime is not installed here.
        """
        try:
            opened = cast("HandsOver", open_runtime(device).compile(content))
        except CostError as error:
            raise CostError(f"{path}: {error}") from error
        return cls(content, opened, device.runtime)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what goes in."""
        return tuple(self.opened.input_shape)

    @cached_property
    def inventory(self) -> Inventory:
        """The operators in the file and what the runtime made of them."""
        return inventory_of(self.content, self.opened.kernels(), self.runtime)


def every_logits(parts: Sequence[ModelPart], images: NDArray[np.float32]) -> Tensor:
    """Logits of all parts for images (N, C, S, S), one by one as they will come: (E, N, K)."""
    rows: list[NDArray[np.float32]] = []
    for image in images:
        x, logits = image[None], list[NDArray[np.float32]]()
        for part in parts:
            found = part.opened.outputs(x)
            logits.append(found[0])
            x = found[-1]
        rows.append(np.stack(logits))
    return torch.from_numpy(np.concatenate(rows, 1))
