"""Tensors: the activations of a model by what they are, their bytes, and the memory they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ..runtimes.kernel import Kernel
from .liveness import Peaks, Step, peaks
from .operator_classes import LINEAR

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")  # other names for the same bytes
INPUT, EMBEDDING, BLOCK, MAP = "images", "embedding", "block output", "attention map"


@dataclass(frozen=True)
class Tensor:
    """An activation of one run.

    Attributes:
        name: what it is, for people.
        place: index of the sub-block that makes it; None of the input.
        operator: that makes it.
        shape: batch included.
        size: in bytes.
    """

    name: str
    place: int | None
    operator: str
    shape: tuple[int, ...]
    size: int


def tensors_of(
    kernels: Sequence[Kernel],
    classes: Sequence[str],
    places: Sequence[int],
    streams: Mapping[str, str],
    images: tuple[int, ...],
) -> list[Tensor]:
    """Activations in the order in which they are made; views of others are left out.

    Args:
        kernels: in the order of execution.
        classes: of each.
        places: index of the sub-block of each.
        streams: value -> what it is, where it enters or leaves a sub-block.
        images: shape of the input.
    """
    listed = [Tensor(INPUT, None, "", images, 4 * prod(images))]
    for kernel, kind, place in zip(kernels, classes, places, strict=True):
        if kernel.operator in VIEWS:
            continue
        for value in kernel.writes:
            name = streams.get(value.name) or _name(kernel, kind)
            listed.append(Tensor(name, place, kernel.operator, value.shape, value.size))
    return listed


def _name(kernel: Kernel, kind: str) -> str:
    if kind == "softmax":
        return MAP
    if kind == LINEAR and kernel.weights:
        module = kernel.weights[0].partition(":")[0].rpartition(".")[0]
        return f"{module.rpartition('.')[2] or kind} output"
    return f"{kind} output"


def memory_of(kernels: Sequence[Kernel], images: tuple[int, ...]) -> Peaks:
    """Planned memory of the activations.

    Args:
        kernels: in the order of execution.
        images: shape of the input.
    """
    return peaks(*steps_of(kernels, images))


def steps_of(
    kernels: Sequence[Kernel], images: tuple[int, ...]
) -> tuple[list[Step], dict[str, int]]:
    """Kernels as steps of a plan, and bytes of each value; views are the value that they show."""
    made = {value.name for kernel in kernels for value in kernel.writes}
    read = {name for kernel in kernels for name in kernel.reads}
    sizes = dict.fromkeys(sorted(read - made), 4 * prod(images))
    same: dict[str, str] = {}
    steps: list[Step] = []
    for kernel in kernels:
        reads = tuple(dict.fromkeys(same.get(name, name) for name in kernel.reads))
        writes = tuple(value.name for value in kernel.writes)
        if kernel.operator in VIEWS and len(reads) == 1:
            same |= dict.fromkeys(writes, reads[0])
            if not read & {*writes}:  # it shows what the caller gets
                steps.append(Step(reads, ()))
            continue
        steps.append(Step(reads, writes))
        sizes |= {value.name: value.size for value in kernel.writes}
    return steps, sizes
