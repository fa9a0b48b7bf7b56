"""Stored weights: a layer's constants as a file keeps them, and what its kernel multiplies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredWeights:
    """Weights of a linear layer or dense convolution.

    Attributes:
        values: (inputs, outputs) of a linear layer, (outputs, inputs, k, k) of a convolution, as
            float32 or float16, or as integers of int8.
        scale: by which integers are multiplied, of a shape that broadcasts.
        bits: in which an integer is stored, 8 or 4.
        integer_kernel: whether a kernel multiplies the integers, with activations that it rounds
            at each run; otherwise they become floats again.
    """

    values: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    bits: int = 8
    integer_kernel: bool = False

    @property
    def floats(self) -> NDArray[np.float32]:
        """The numbers that are stored."""
        real = self.values.astype(np.float32)
        return real if self.scale is None else real * self.scale
