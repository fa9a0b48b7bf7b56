"""Kernels: what a runtime executes, and graphs that tell how long each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Value(NamedTuple):
    """A tensor that a kernel makes.

    Attributes:
        name: in the graph that is executed.
        shape: of one run, batch included.
        size: in bytes.
    """

    name: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Kernel:
    """A kernel that a runtime executes.

    Attributes:
        name: of its node, which begins with the value that the node of the file makes, if any.
        operator: kind, in the words of the runtime.
        reads: names of the values that it takes, without constants.
        weights: names of the constants that it takes.
        writes: what it makes.
    """

    name: str
    operator: str
    reads: tuple[str, ...]
    weights: tuple[str, ...]
    writes: tuple[Value, ...]


class Watched(Protocol):
    """A graph whose kernels are timed while it runs."""

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of the compiled shape -> outputs."""
        ...

    def kernels(self) -> tuple[list[Kernel], NDArray[np.float64]]:
        """Kernels in order of execution, and (runs, kernels) ms of each; it runs no more then."""
        ...
